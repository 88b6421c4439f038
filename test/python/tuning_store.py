"""Records of a tuning store, as tests read and write them."""
import json
import subprocess


def records_of(store, path):
    """All records of `store`, by way of the file `path`."""
    subprocess.run(["dlc-tune", "export", f"-store={store}", "-o", path], check=True, capture_output=True)
    return [json.loads(line) for line in path.read_text().splitlines()]


def import_records(store, records, path):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    subprocess.run(["dlc-tune", "import", path, f"-store={store}"], check=True, capture_output=True)
