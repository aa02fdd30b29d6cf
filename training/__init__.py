"""Train `scenes` and `scenes-flow`: one world at 128×128 pixels, and two models that draw it.

    python -m training --minutes 60

does what is missing next, and resumes. Needs torch and nothing else, so a bare machine with a GPU can run it.
"""
