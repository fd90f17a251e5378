"""The sub-command ``fmsteal export``. Torch is imported only after the arguments are checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fmsteal.face.export import FORMATS, export
from fmsteal.report.commands.arguments import end_if_refused, make_parser

TEXT = """\
Write the stolen model of a finished job for others to load. What was written is loaded again and compared with the
thief: it answers alike, or nothing is kept.

  timm          a folder: timm.create_model("local-dir:DEST", pretrained=True); takes normalised images, as its
                pretrained_cfg says
  torch.export  a .pt2 file: torch.export.load(DEST).module(); takes floats in [0, 1]
  onnx          a .onnx file, for onnxruntime; takes floats in [0, 1]. Needs 'fmsteal[export]'

Images are (n, 3, H, W) at the model's own size, of any number n; out come logits or embeddings."""


@end_if_refused()
def main(words: Sequence[str]) -> None:
    """Run the sub-command; its name is the first word."""
    parser = make_parser("export", TEXT)
    parser.add_argument("job", type=Path, metavar="JOB", help="a job's folder: outputs/runs/<key>")
    parser.add_argument("--to", choices=list(FORMATS), required=True, help="the format")
    parser.add_argument("dest", type=Path, metavar="DEST", help="the folder or file to write; it is not there yet")
    args = parser.parse_args(words[1:])
    from fmsteal.face.jobs import load

    print(f"{export(load(args.job), args.to, args.dest)} is written and answers like the thief")
