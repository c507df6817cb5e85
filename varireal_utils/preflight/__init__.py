"""Before a long run: for each role a small, real piece of work, and what is expected of it.

    registry.py    the checks, in the order in which they run
    checks/        one file a check, each with a `CHECK`
    check.py       what a check is, and what it finds
    workspace.py   the photographs, phrases and pictures that the checks share
    watch.py       numbers inside the networks while they run
    floors.py      zero-shot accuracies that a model must reach, with their sources
    stage.py       runs all checks and writes the record
    page.py        the table, the contact sheet and the page

Nothing is written into the study's own folders, and no photograph of the test split is opened.
"""
