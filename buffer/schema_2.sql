-- Schema 2: as what the records of a task are kept: 1 monthly, 2 daily, 3 curve, 4 bulk. What stood here before is taken
-- for daily until the site file says something else of its task.
ALTER TABLE series ADD COLUMN class INTEGER NOT NULL DEFAULT 2;
