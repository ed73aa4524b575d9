"""The command line's parts: `python -m llmlib`, whose door is `llmlib.__main__`.

Written by hand. One file per command, to be read from the top down, and the parts they share.

    arguments     the flags of all commands, with help and examples
    settings      the settings of a run: from flags, a file or a recipe, with helpful errors
    console       printing, for terminals and pipes of all kinds

    tokenizer     `llmlib tokenizer`
    prepare       `llmlib prepare`: a text becomes a folder of token files
    train         `llmlib train`
    generate      `llmlib generate`
    evaluate      `llmlib evaluate`
    download      `llmlib download`

    dataset       a folder of token files becomes batches
    run_folder    what a run leaves behind, and how it is put right after a crash
    callbacks     between the steps: looks, the log, the curves, checkpoints
    devices       which device to trust, and whether compiling works
    processes     one process or many, and what they have to agree on

`arguments`, `settings` and `console` import no torch: `--help` and a misspelt flag are answered at
once.
"""
