"""Results as files, and what they say together.

inputs.py          results out of JSON Lines (`origins.py` chooses among these, a run's journal and Redis)
judging.py         a result beside its known class
output.py          a file that is there whole or not at all, or standard output
rows.py            a result as one flat row: the columns of CSV and Parquet
json_lines.py  csv_file.py  parquet_file.py   one row per picture
summary.py         counts, codes, classes, seconds, and with labels top-1, top-5 and confusions
tables.py          results, or a summary, as tables for people
contact_sheet.py   one HTML page of pictures, out of page/ and thumbnails.py
writers.py         which of these a format is

What all commands print with is `imagequeue.terminal`.
"""
