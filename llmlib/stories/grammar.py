"""The grammar of the story world, as text to read and to change.

Written by hand. Change a line here, or build your own world beside it:

    from llmlib.stories import RULES, WORDS, World
    space = World(RULES, WORDS.replace("in a castle", "on the moon"))

RULES says what may be told. A rule has a name and one or more equally likely alternatives; a line
that does not begin with "- " continues the alternative above it. Inside:

    <plot>              go on with one of the alternatives of the rule `plot`
    [cried|was sad]     one of these; one may be empty, and they may hold anything a rule may
    {hero.name}         a name for the hero. The first mention chooses it, later ones recall it
    {hero.He}           a pronoun for the hero; the capital is for the beginning of a sentence
    {color}, {color2}   words of no character; a digit tells two of the same class apart
    {hero is person}    say nothing, but note a trait that the hero's words have to agree with
    {n in 3..9}         choose a number; single letters are numbers, and can be bounds later
    {n}, {n-k}          that number again, and a number that follows from others
    {treat:n}           a noun for n of them: "apple" or "apples"
    {ending = happy}    say nothing, but write down a fact about the story, a word or a variable
                        of it (`{object = hero.object}`); `Story.facts` holds what is written here

Brackets of all kinds go between words, never within one (`coin[s|]` would tell "coin s"). Spaces
are put in where they belong, so line breaks in a rule do not matter.
No rule may lead back to itself, so every story ends. A line that begins with # is a comment.

WORDS says which words there are. A class has a name and lines of words with the same traits, with
`any` for words that go with everyone. Two words about the same character agree in their traits: a
hero in a palace is royal, and a hero called Lily is "she". The first class, `traits`, lists them:
at most one trait of each line holds for a character. `role as a/b` gives every word of a class two
forms, and `{hero.b}` asks for the second; `no two alike` keeps two variables of a class from being
the same word (the hero and the friend have different names). All words that fit are equally likely,
which makes the probability of a story exact.
"""

RULES = """
story:
  - {hero is person} {name = hero.name} {role = hero.role} <opening> <plot>

opening:
  - Once upon a time there was {hero.age} {hero.role} named {hero.name}.
    {hero.He} lived {hero.home}[| near the {place}].
  - {hero.name} was {hero.age} {hero.role} who [loved|liked] to {hero.play}.
    {hero.He} lived {hero.home}.
  - Long ago, {hero.age} {hero.role} lived {hero.home}.
    {hero.His} name was {hero.name}, and {hero.he} liked to {hero.play}.

plot:
  - {plot = lost} {object = hero.object} <lost>
  - {plot = share} {object = treat} <share>
  - {plot = swap} {object = friend.object} <swap>
  - {plot = need} {object = friend.help} <need>
  - {plot = gift} {object = friend.object} <gift>

# ---- Something is lost, and a stranger helps to look for it, or does not.

lost:
  - {hero.He} had a {color} {hero.object}[| that {hero.he} loved very much].
    <one_day>, {hero.he} took it to the {place2} and lost it.
    <Hero> [cried|was very sad|did not know what to do]. Then {hero.he} met <a_friend>.
    "[Can you help me find|Have you seen] my {color} {hero.object}?" asked <hero>. <found>

found:
  - "[Yes|Of course], [I will help you|let us look for it]!" said <friend>.
    They looked {spot}, but the {color} {hero.object} was not there.
    Then they looked {spot2}, and there it was!
    {friend.name} gave the {color} {hero.object} back to <hero>. <thanks_to_friend> <happy>
  - "[No|Sorry], I [have no time|cannot help you]," said <friend>.
    <Hero> looked {spot} and {spot2}, but the {color} {hero.object} was not there.
    {hero.He} went home without {hero.his} {color} {hero.object}. <sad>

# ---- There is plenty, and someone asks for a part of it.

share:
  - <one_day>, {hero.name} [found|bought|was given] {n in 3..9} {treat:n}.
    On the way home {hero.he} met <a_friend>.
    "[May I have|Can you give me] {k in 1..n-1} {treat:k}?" asked <friend>. <shared>

shared:
  - "[Yes|Of course]!" said <hero>, and gave {friend.him} {k} {treat:k}.
    Now {hero.he} had {n-k} {treat:n-k} left. <thanks_to_hero> <happy>
  - "No, they are all mine!" said <hero>.
    {hero.He} kept all {n} {treat:n}, and <friend> got nothing. <sad>

# ---- Two things change hands.

swap:
  - {hero.He} had a {color} {hero.object}, but {hero.he} wanted something new.
    <one_day>, {hero.he} met <a_friend>, who had a {color2} {friend.object}.
    "I will give you my {color} {hero.object} for your {color2} {friend.object},"
    said <hero>. <swapped>

swapped:
  - "[Yes|Good], [I like it|let us do that]!" said <friend>.
    So <hero> gave {friend.him} the {color} {hero.object}
    and got the {color2} {friend.object}. Now {hero.name} had a {color2} {friend.object}
    and {friend.name} had a {color} {hero.object}. <happy>
  - "No, I [love|need] my {color2} {friend.object}," said <friend>.
    So {hero.name} kept {hero.his} {color} {hero.object}
    and {friend.name} kept {friend.his} {color2} {friend.object}. <sad>

# ---- Someone is in need.

need:
  - <one_day>, {hero.he} [went for a walk|was on the way home] and met <a_friend>.
    {friend.He} was very {friend.need}.
    "[Please help me!|Can you help me?] I am so {friend.need}," said <friend>. <needed>

needed:
  - "Wait here," said <hero>. {hero.He} [ran|went] home and came back with {friend.help}.
    Soon {friend.name} was not {friend.need} any more. <thanks_to_hero> <happy>
  - <Hero> had {friend.help} at home, but {hero.he} did not want to share.
    So <friend> was still {friend.need} when {hero.he} left. <sad>

# ---- A gift is bought with counted coins.

gift:
  - {hero.He} had {n in 3..9} {coin:n}. <one_day>, {hero.he} went to the market
    to buy a gift for {hero.his} friend {friend.name}.
    {hero.He} saw a {color} {friend.object}. It cost {k in 1..n-1} {coin:k}.
    <Hero> paid and had {n-k} {coin:n-k} left.
    {hero.He} gave the {color} {friend.object} to {friend.name}. <given>

given:
  - "[What a beautiful|I love this] {color} {friend.object}!" said {friend.name}.
    {friend.He} was so happy that {friend.he} gave {hero.name} a [hug|kiss]. <happy>
  - "I do not like this {color} {friend.object}," said {friend.name}.
    So <hero> took the {color} {friend.object} back. <sad>

# ---- What the stories have in common.

one_day:
  - One {weather} {time}

hero:
  - {hero.name}
  - the {hero.role}

Hero:
  - {hero.name}
  - The {hero.role}

friend:
  - {friend.name}
  - the {friend.role}

Friend:
  - {friend.name}
  - The {friend.role}

a_friend:
  - {friend is animal} a {friend.role} named {friend.name}
  - {friend is person} {friend.age} {friend.role} named {friend.name}

thanks_to_hero:
  - "Thank you, {hero.name}!" said <friend>.
  - <Friend> thanked {hero.him} [with a smile|again and again].

thanks_to_friend:
  - "Thank you, {friend.name}!" said <hero>.
  - <Hero> thanked {friend.him} [with a smile|again and again].

happy:
  - {ending = happy} From that day on, {hero.name} and {friend.name} were [good|best] friends.
  - {ending = happy} Then {hero.name} and {friend.name} {hero.played} together
    until [it was dark|the sun went down].
  - {ending = happy} {hero.name} was happy, and {friend.name} was happy too.
  - {ending = happy} <Hero> went home with a [big|happy] smile.

sad:
  - {ending = sad} After that, {hero.name} and {friend.name}
    [did not talk any more|kept away from each other].
  - {ending = sad} That night <hero> was sad and could not [sleep|eat].
  - {ending = sad} <Hero> sat down all alone and [cried|sighed].
"""

WORDS = """
traits
  kind: person, animal
  sex: male, female
  rank: royal, common
  age: young, old
  need: hunger, thirst, chill, sleepiness, rain, loneliness

role, no two alike
  person royal old male: king
  person royal old female: queen
  person royal young male: prince
  person royal young female: princess
  person common old male: man
  person common old female: woman
  person common young male: boy
  person common young female: girl
  animal: fox, bear, rabbit, mouse, frog, duck, dog, cat, horse, goat, bird, pig

name, no two alike
  male: Tom, Ben, Max, Sam, Leo, Jack, Tim, Hugo, Finn, Paul
  female: Lily, Anna, Mia, Rose, Ella, Lucy, Nora, Sue, Kate, Zoe

pronoun as he/him/his
  male: he/him/his
  female: she/her/her

age
  young: a little, a young, a small
  old: an old, a tall, a wise
  any: a kind, a clever, a brave, a quiet

home
  royal: in a castle, in a palace, in a tower, in a marble hall
  common: in a cottage, in a cabin, in a small house, on a farm

play as play/played
  young: play/played, dance/danced, sing/sang, draw/drew, run/ran
  old: read/read, cook/cooked, paint/painted, walk/walked, bake/baked
  any: swim/swam, fish/fished

object, no two alike
  royal: crown, ring, sword, cup
  common: ball, hat, kite, basket
  any: book, bell, drum, box, lamp, flute, coat, key

color, no two alike
  any: red, blue, green, yellow, white, black, golden, pink

place, no two alike
  any: forest, garden, river, lake, market, village, hill, park, field, beach, mill, bridge

weather
  any: sunny, rainy, windy, cold, warm, cloudy

time
  any: day, morning, evening, afternoon

spot, no two alike
  any: under a bush, behind a wall, in the grass, near the well, under a tree,
       behind a rock, under a bench, in the mud, by the gate, in a hole

need
  hunger: hungry
  thirst: thirsty
  chill: cold
  sleepiness: tired
  rain: wet
  loneliness: lonely

help
  hunger: some bread, a bowl of soup
  thirst: some water, a cup of milk
  chill: a blanket, a warm coat
  sleepiness: a pillow, a hammock
  rain: a towel, dry clothes
  loneliness: a puppy, a funny book

treat as treat/treats
  any: apple/apples, pear/pears, plum/plums, cookie/cookies, carrot/carrots,
       nut/nuts, egg/eggs, cake/cakes, flower/flowers, shell/shells

coin as coin/coins
  any: coin/coins

number
  any: one, two, three, four, five, six, seven, eight, nine
"""
