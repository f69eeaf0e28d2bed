-- Job executions of devices that run whole jobs themselves. `ended` ones stay for a while, so that
-- a step taken up again finds its end, and a late device is told.
CREATE TABLE executions (
    thing TEXT NOT NULL,
    job TEXT NOT NULL,
    number INTEGER NOT NULL,
    task TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (thing, job, number)
) WITHOUT ROWID;
