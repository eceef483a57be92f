"""The images that callers put in: `routes` takes one, `uploads` reads it and looks at it, `stored` puts it into fal's
storage for its owner (`owners`).
"""  # noqa: D205  one sentence
