"""The ground and what stands beside the rooms: files, figures, exercises, GPT-2 in 100 lines."""

from refusals import api
from refusals.refusal import Refusal


def home_of_nothing(tmp):
    with api.environment(LLMLIB_HOME=str(tmp)):
        api.home()


def folder_there(tmp):
    (tmp / "there").mkdir()
    with api.making_folder(tmp / "there"):
        pass


def minimal_with(change: int):
    """nano with its weights longer by some bytes."""

    def call(tmp):
        path = api.copy_nano(tmp) / "model.ckpt.data-00000-of-00001"
        path.write_bytes(path.read_bytes() + bytes(change))
        api.load_minimal(path.parent)

    return call


def defined_twice(tmp):
    def answers(answer):
        yield

    api.check_exercise("01.1", len)  # which is there from then on
    api.register_exercise("01.1")(answers)


REFUSALS = [
    Refusal(
        "home of nothing",
        home_of_nothing,
        FileNotFoundError,
        ["LLMLIB_HOME", "data/", "gpt2/", "checkout"],
    ),
    Refusal("a folder that is there", folder_there, FileExistsError, ["there", "exists", "remove"]),
    *(
        Refusal(
            f"heat map of {name}",
            lambda tmp, arguments=arguments: api.heatmap(*arguments),
            ValueError,
            says,
        )
        for name, arguments, says in [
            ("a list", ([1, 2, 3],), ["(3,)", "matrix"]),
            ("too few rows", ([[1, 2]], ["a", "b"]), ["2", "1", "rows"]),
            ("too many columns", ([[1, 2]], None, ["a"]), ["1", "2", "columns"]),
        ]
    ),
    Refusal("no exercise", lambda tmp: api.check_exercise("77.1", len), ValueError, ["77.1"]),
    Refusal(
        "no exercise of a notebook",
        lambda tmp: api.check_exercise("01.99", len),
        ValueError,
        ["01.99", "01.1"],
    ),
    Refusal(
        "exercise with no function",
        lambda tmp: api.check_exercise("01.1", 4),
        TypeError,
        ["01.1", "function", "4"],
    ),
    Refusal("exercise defined twice", defined_twice, ValueError, ["01.1", "twice"]),
    Refusal("minimal of more weights", minimal_with(4), ValueError, ["weights", "hparams.json"]),
]
