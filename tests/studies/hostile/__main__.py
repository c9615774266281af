"""`python -m tests.studies.hostile`: what parity does with bad input, kills and many runs.

Without options a campaign of 2,500 seeded inputs, 300 of them by the real command line. Prints
Markdown tables; exits with 1 if anything was not handled: right exit code, at most three lines, no
traceback, no control character, nothing left behind, bounded memory, at most 20 s.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.studies.hostile import campaign, fuzz, kills, soak, together
from tests.studies.hostile.workers import Zygotes


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=2500)
    parser.add_argument("--command-line", type=int, default=300, help="of them by real commands")
    parser.add_argument("--kind", action="append", choices=list(campaign.SHARES), default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=Path, help="keep the files that frameworks write here")
    parser.add_argument("--failures", type=Path, help="write those not handled, as lines of JSON")
    parser.add_argument("--fuzz", type=float, metavar="SECONDS", help="fuzz every parser instead")
    parser.add_argument("--kills", type=int, metavar="N", help="kill N commands instead")
    parser.add_argument("--soak", type=int, metavar="N", help="compare N times instead")
    parser.add_argument("--together", action="store_true", help="three at once instead")
    arguments = parser.parse_args()
    if arguments.fuzz is not None:
        return fuzz.main(arguments.fuzz, arguments.seed, arguments.samples)
    if arguments.kills is not None:
        return kills.main(arguments.kills, arguments.seed)
    if arguments.soak is not None:
        return soak.main(arguments.soak)
    if arguments.together:
        return together.main()
    return run_campaign(arguments)


def run_campaign(arguments: argparse.Namespace) -> int:
    """Run the campaign and print its table."""
    kinds = tuple(arguments.kind or campaign.SHARES)
    results = []
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name)
        samples = campaign.make_samples(arguments.samples or folder / "samples")
        zygotes = Zygotes(folder, ("torch", "keras", "onnx"))
        try:
            cases = campaign.draw_cases(arguments.inputs, arguments.seed, samples, kinds)
            for case, ending, real in campaign.run(
                cases, folder / "cases", zygotes, arguments.command_line, arguments.seed
            ):
                faults = ending.find_faults(case)
                results.append((case, faults, real, ending))
                if faults:
                    print(f"{case.kind}: {case.name}: {'; '.join(faults)}", file=sys.stderr)
                if faults and arguments.failures:
                    with arguments.failures.open("a", encoding="utf-8") as file:
                        print(campaign.to_line(case, faults, ending, real), file=file)
        finally:
            zygotes.close()
    print(campaign.summarise(results))
    return 1 if any(faults for _, faults, *_ in results) else 0


if __name__ == "__main__":
    sys.exit(main())
