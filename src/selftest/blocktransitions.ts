/** stage2_block_transitions: pages become a block again, and blocks become pages, by permission faults. */
import { CALL, GuestOps, LOAD, STORE } from "./guestops.js";
import { BLOCK, DATA_SLOT, GuestVm, KVM_MEM_LOG_DIRTY_PAGES, PAGE } from "./guestvm.js";
import type { Checks, Selftest, SelftestOptions } from "./report.js";
import { needs, Skip } from "./report.js";

const DATA = 0x80000000;
/** The page of a block that the guest touches. */
const TOUCHED = 5;
const BLOCKS = 16;

function vmWithBlocks(blocks: number, options: SelftestOptions): { readonly g: GuestVm; readonly ops: GuestOps } {
  const g = new GuestVm(options);
  g.boot();
  g.add(DATA_SLOT, DATA, blocks * BLOCK, "anonymous_hugetlb_2mb");
  for (let n = 0; n < blocks; n++) g.map(touched(n), touched(n), 1);
  g.start();
  return { g, ops: new GuestOps(g) };
}
const touched = (block: number): number => DATA + block * BLOCK + TOUCHED * PAGE;

/** Size of the stage-2 leaf at an IPA and whether it is writable and executable: `4096 rw-`. */
export function leafAt(g: GuestVm, ipa: number): string {
  const leaf = g.vm.stage2Leaves().find((l) => ipa >= l.ipa && ipa < l.ipa + l.size);
  if (leaf === undefined) return "none";
  return `${leaf.size} r${(leaf.s2ap & 2) !== 0 ? "w" : "-"}${leaf.xn === 0 ? "x" : "-"}`;
}
/** The same without the execute permission, which CPUs with CTR_EL0.DIC give away at once. */
export function leafSize(g: GuestVm, ipa: number): string {
  return leafAt(g, ipa).slice(0, -1);
}

function collapse(c: Checks, options: SelftestOptions): void {
  const { g, ops } = vmWithBlocks(1, options);
  const region = g.regions.find((r) => r.slot === DATA_SLOT)!;
  c.expect("logging on", 0, g.setRegion(region, KVM_MEM_LOG_DIRTY_PAGES));
  c.expect("write under dirty logging", "0x1", ops.outcome(STORE, touched(0), 1n));
  c.expect("it is mapped by a page", "4096 rw", leafSize(g, touched(0)));
  c.expect("the dirty log holds that page", String(TOUCHED), g.vm.getDirtyLog(DATA_SLOT).pages.join(","));
  c.expect("KVM_GET_DIRTY_LOG protects it again", "4096 r-", leafSize(g, touched(0)));
  c.expect("logging off", 0, g.setRegion(region, 0));
  c.expect("write without logging", "0x2", ops.outcome(STORE, touched(0), 2n));
  c.expect("the permission fault collapses into a block", `${BLOCK} rw`, leafSize(g, touched(0)));
  c.expect("the page of the old write is there", 2n, g.load(touched(0)));
}

function split(c: Checks, options: SelftestOptions): void {
  const { g, ops } = vmWithBlocks(BLOCKS, options);
  needs(g.machine, "kvm", "executeNever", true, "memory is always executable in this release");
  if (g.machine.features.dic) throw new Skip("CTR_EL0.DIC: blocks are executable at once");
  const region = g.regions.find((r) => r.slot === DATA_SLOT)!;
  for (let n = 0; n < BLOCKS; n++) g.program(touched(n), [`mov x0, #${n + 1}`, "ret"]);
  for (let n = 0; n < BLOCKS; n++) ops.run(LOAD, touched(n));
  for (let n = 0; n < BLOCKS; n++) c.expect(`block ${n}: mapped without execute`, `${BLOCK} rw-`, leafAt(g, touched(n)));
  c.expect("logging on", 0, g.setRegion(region, KVM_MEM_LOG_DIRTY_PAGES));
  for (let n = 0; n < BLOCKS; n++) {
    c.expect(`block ${n}: executes`, `0x${(n + 1).toString(16)}`, ops.outcome(CALL, touched(n)));
    c.expect(`block ${n}: the execute fault splits it`, "4096 r-x", leafAt(g, touched(n)));
  }
  c.expect("nothing is dirty", "", g.vm.getDirtyLog(DATA_SLOT).pages.join(","));
}

export const blockTransitions: Selftest = {
  name: "stage2_block_transitions",
  title: "permission faults that collapse pages into a block and split blocks into pages",
  cases: [
    { name: "collapse after dirty logging", run: collapse },
    { name: "execute faults split blocks", run: split },
  ],
};
