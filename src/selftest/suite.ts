/** The selftests that the emulator can run, by the names of the kernel's own (tools/testing/selftests/kvm). */
import { blockTransitions } from "./blocktransitions.js";
import { externalAborts } from "./externalaborts.js";
import { guestMemfdTest } from "./guestmemfd.js";
import { mmioSignExt } from "./mmiosignext.js";
import { mmuStressTest } from "./mmustress.js";
import { pageFaultTest } from "./pagefault.js";
import { pageTableTest } from "./pagetable.js";
import { runCase, type CaseResult, type Selftest, type SelftestOptions } from "./report.js";
import { seaToUser } from "./seatouser.js";
import { setMemoryRegionTest } from "./setmemoryregion.js";

export const SELFTESTS: readonly Selftest[] = [
  pageFaultTest,
  blockTransitions,
  externalAborts,
  pageTableTest,
  mmuStressTest,
  setMemoryRegionTest,
  mmioSignExt,
  seaToUser,
  guestMemfdTest,
];

/** Runs all cases of the tests, one after the other. */
export function* runSelftests(tests: readonly Selftest[], options: SelftestOptions): Generator<CaseResult> {
  for (const t of tests) for (const c of t.cases) yield runCase(t, c, options);
}
