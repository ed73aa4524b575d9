"""The command line's parts: `python -m llmlib`, whose thin door is `llmlib.__main__`.

Written by hand. What the notebooks teach is imported from the rooms below; what stands here is what
a program needs around it.

    config        settings: from flags, from a file, from a recipe; checked, with helpful errors
    tokenizer     `llmlib tokenizer`, and the kinds of tokenizers there are
    prepare       a text becomes a folder of token files
    dataset       a folder of token files becomes batches
    devices       which device to trust, and whether compiling works
    processes     one process or many, and what they have to agree on
    console       what is printed, and to whom
    run_folder    what a run leaves behind, and how it is mended after a crash
    look          how good a model is, now and then while it trains: loss, samples, plot
    train         `llmlib train`
    generate      `llmlib generate`
    evaluate      `llmlib evaluate`
    download      `llmlib download`

Nothing here imports torch before it has to: `--help` and a misspelt flag are answered at once.
"""
