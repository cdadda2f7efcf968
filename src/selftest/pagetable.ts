/**
 * kvm_page_table_test: CREATE maps memory, UPDATE changes the entries under dirty logging (read-only to
 * writable, or blocks to pages), ADJUST makes blocks again when the logging is over. Odd vCPUs read,
 * even ones write.
 */
import { leafSize } from "./blocktransitions.js";
import { GuestOps, LOAD, STORE } from "./guestops.js";
import { BLOCK, DATA_SLOT, GuestVm, KVM_MEM_LOG_DIRTY_PAGES, PAGE, type Region } from "./guestvm.js";
import type { Backing, Case, Checks, Selftest, SelftestOptions } from "./report.js";

const DATA = 0x80000000;
const BLOCKS = 4;
const VCPUS = 4;
const PAGES = BLOCK / PAGE;

interface Stages {
  readonly g: GuestVm;
  readonly ops: GuestOps;
  readonly region: Region;
  /** Names of the events that no page-table change may cause. */
  readonly violations: string[];
}

function build(kind: Backing, options: SelftestOptions): Stages {
  const g = new GuestVm(options);
  g.boot();
  const region = g.add(DATA_SLOT, DATA, BLOCKS * BLOCK, kind);
  for (let n = 0; n < BLOCKS; n++) for (const page of [0, n, PAGES / 2]) g.map(at(n, page), at(n, page), 1);
  for (let n = 0; n < VCPUS; n++) g.start();
  const violations: string[] = [];
  for (const event of ["break_before_make_violation", "stale_translation"]) g.machine.on(event, () => violations.push(event));
  return { g, ops: new GuestOps(g), region, violations };
}
const at = (block: number, page: number): number => DATA + block * BLOCK + page * PAGE;

/** Every vCPU goes to the page of each block: odd ones read, even ones write. @returns how many came to their end */
function touch(s: Stages, page: (block: number) => number): number {
  let done = 0;
  for (let n = 0; n < BLOCKS; n++)
    for (const [id, vcpu] of s.g.vcpus.entries())
      if (s.ops.run(id % 2 === 1 ? LOAD : STORE, at(n, page(n)), BigInt(n + 1), vcpu).kind === "report") done++;
  return done;
}
function leaves(s: Stages, page: (block: number) => number): string {
  const sizes = Array.from({ length: BLOCKS }, (_, n) => leafSize(s.g, at(n, page(n))));
  return [...new Set(sizes)].join(", ");
}

function stages(kind: Backing, c: Checks, options: SelftestOptions): void {
  const s = build(kind, options);
  const huge = kind === "anonymous_hugetlb_2mb";
  const mapped = huge ? `${BLOCK}` : "4096";
  const everybody = BLOCKS * VCPUS;
  c.expect(
    "KVM_CREATE_MAPPINGS: accesses",
    everybody,
    touch(s, (n) => n),
  );
  c.expect(
    "KVM_CREATE_MAPPINGS: entries",
    `${mapped} rw`,
    leaves(s, (n) => n),
  );
  c.expect("dirty logging on", 0, s.g.setRegion(s.region, KVM_MEM_LOG_DIRTY_PAGES));
  c.expect(
    "entries are read-only then",
    `${mapped} r-`,
    leaves(s, (n) => n),
  );
  c.expect(
    "KVM_UPDATE_MAPPINGS: accesses",
    everybody,
    touch(s, (n) => n),
  );
  c.expect(
    "KVM_UPDATE_MAPPINGS: entries",
    "4096 rw",
    leaves(s, (n) => n),
  );
  const written = Array.from({ length: BLOCKS }, (_, n) => n * PAGES + n).join(",");
  c.expect("the dirty log holds the pages written", written, s.g.vm.getDirtyLog(DATA_SLOT).pages.join(","));
  c.expect("dirty logging off", 0, s.g.setRegion(s.region, 0));
  c.expect(
    "KVM_ADJUST_MAPPINGS: accesses",
    everybody,
    touch(s, () => PAGES / 2),
  );
  c.expect(
    "KVM_ADJUST_MAPPINGS: entries",
    `${mapped} rw`,
    leaves(s, () => PAGES / 2),
  );
  c.expect(
    "KVM_ADJUST_MAPPINGS: entries of the pages written",
    huge ? `${mapped} rw` : "4096 r-",
    leaves(s, (n) => n),
  );
  c.expect("no TLB conflict on the way", "", s.violations.join(","));
}

export const pageTableTest: Selftest = {
  name: "kvm_page_table_test",
  title: "stage-2 entries created, updated under dirty logging, and coalesced",
  cases: (["anonymous", "shmem", "anonymous_hugetlb_2mb"] as const).map((kind): Case => ({
    name: kind,
    run: (c, o) => stages(kind, c, o),
  })),
};
