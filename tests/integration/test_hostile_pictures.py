"""Files made to break decoders: each gets an answer, and no slot dies of one."""

import pytest

from tests.harness.photographs import hostile_files

FOLDERS = ["bombs", "png_corrupt", "jpeg_corrupt"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_hostile_file_is_answered_and_no_slot_is_lost(mesh, tmp_path, folder):
    files = hostile_files(folder, tmp_path)
    assert files
    mesh.start(extractor={"slots": 2})
    before = set(mesh.slot_pids())
    wrong = []
    for path in files:
        answer = mesh.post("/v1/features?denoise=none&first_octave=0", path.read_bytes())
        if not (answer.status == 200 or 400 <= answer.status < 500):
            wrong.append(f"{path.name}: {answer.status} {answer.body[:200]}")
    assert not wrong, "\n".join(wrong)
    assert set(mesh.slot_pids()) == before
