/**
 * The 65 rows of the kernel's page_fault_test as data: what is accessed, how it is prepared, what is
 * marked (holes, userfaultfd, dirty log, read-only memslots), and what must come of it.
 */
export type Access = "read64" | "write64" | "cas" | "ld_preidx" | "st_preidx" | "at" | "dc_zva" | "exec";
export type Family =
  "access" | "hole" | "uffd" | "dirty_log" | "uffd_and_dirty_log" | "ro_memslot" | "ro_memslot_and_dirty_log" | "ro_memslot_and_uffd";

/** What the dirty log must hold after the access. */
export interface DirtyCheck {
  readonly data: boolean;
  readonly pt: boolean;
}

export interface Row {
  readonly family: Family;
  readonly access: Access;
  /** with_af: TCR_EL1.HA is set and the PTE's access flag cleared, so that the walk writes the table. */
  readonly withAf: boolean;
  /** Backings that are punched when the guest says so. */
  readonly holes: { readonly data: boolean; readonly pt: boolean };
  /** Userfaultfd on both regions. */
  readonly uffd: boolean;
  /** Memslot flags of data and page tables. */
  readonly readOnly: boolean;
  readonly logDirty: boolean;
  /** Undefined: the log is not looked at. */
  readonly dirty: DirtyCheck | undefined;
  readonly expected: { readonly mmioExits: number; readonly failVcpuRuns: number; readonly uffdFaults: number };
}

const NO_HOLES = { data: false, pt: false };
const BOTH_HOLES = { data: true, pt: true };
const PLAIN = {
  withAf: false,
  holes: NO_HOLES,
  uffd: false,
  readOnly: false,
  logDirty: false,
  dirty: undefined,
  expected: { mmioExits: 0, failVcpuRuns: 0, uffdFaults: 0 },
} as const;

const access = (a: Access): Row => ({ ...PLAIN, family: "access", access: a, withAf: true });
const hole = (a: Access): Row => ({ ...PLAIN, family: "hole", access: a, holes: { data: true, pt: false } });
const uffd = (a: Access, withAf: boolean, faults: number): Row => ({
  ...PLAIN,
  family: "uffd",
  access: a,
  withAf,
  holes: BOTH_HOLES,
  uffd: true,
  expected: { mmioExits: 0, failVcpuRuns: 0, uffdFaults: faults },
});
const log = (a: Access, withAf: boolean, dirty: DirtyCheck): Row => ({
  ...PLAIN,
  family: "dirty_log",
  access: a,
  withAf,
  logDirty: true,
  dirty,
});
const uffdLog = (a: Access, withAf: boolean, faults: number, dirty: DirtyCheck): Row => ({
  ...uffd(a, withAf, faults),
  family: "uffd_and_dirty_log",
  logDirty: true,
  dirty,
});
const ro = (a: Access, mmioExits: number): Row => ({
  ...PLAIN,
  family: "ro_memslot",
  access: a,
  readOnly: true,
  expected: { mmioExits, failVcpuRuns: 0, uffdFaults: 0 },
});
const roFails = (a: Access): Row => ({ ...ro(a, 0), expected: { mmioExits: 0, failVcpuRuns: 1, uffdFaults: 0 } });
const roLog = (r: Row): Row => ({ ...r, family: "ro_memslot_and_dirty_log", logDirty: true, dirty: { data: false, pt: false } });
const roUffd = (r: Row, faults: number): Row => ({
  ...r,
  family: "ro_memslot_and_uffd",
  holes: BOTH_HOLES,
  uffd: true,
  expected: { ...r.expected, uffdFaults: faults },
});

const NOTHING = { data: false, pt: false };
const TABLE = { data: false, pt: true };
const BOTH = { data: true, pt: true };

export const PAGE_FAULT_ROWS: readonly Row[] = [
  // The hardware sets the access flag.
  access("read64"),
  access("ld_preidx"),
  access("cas"),
  access("write64"),
  access("st_preidx"),
  access("dc_zva"),
  access("exec"),
  // A hole reads as zeroes and takes writes.
  hole("read64"),
  hole("cas"),
  hole("ld_preidx"),
  hole("write64"),
  hole("st_preidx"),
  hole("at"),
  hole("dc_zva"),
  // Two userfaults: the walk's and the access's. AT stays away from the data.
  uffd("read64", true, 2),
  uffd("read64", false, 2),
  uffd("cas", true, 2),
  uffd("at", false, 1),
  uffd("ld_preidx", true, 2),
  uffd("write64", true, 2),
  uffd("dc_zva", true, 2),
  uffd("st_preidx", true, 2),
  uffd("exec", true, 2),
  // The data is dirty after writes only, the table after an access-flag update only.
  log("read64", true, TABLE),
  log("read64", false, NOTHING),
  log("ld_preidx", true, TABLE),
  log("at", false, NOTHING),
  log("exec", true, TABLE),
  log("write64", true, BOTH),
  log("cas", true, BOTH),
  log("dc_zva", true, BOTH),
  log("st_preidx", true, BOTH),
  // Both at once.
  uffdLog("read64", true, 2, TABLE),
  uffdLog("read64", false, 2, NOTHING),
  uffdLog("ld_preidx", true, 2, TABLE),
  uffdLog("at", true, 1, TABLE),
  uffdLog("exec", true, 2, TABLE),
  uffdLog("write64", true, 2, BOTH),
  uffdLog("cas", true, 2, BOTH),
  uffdLog("dc_zva", true, 2, BOTH),
  uffdLog("st_preidx", true, 2, BOTH),
  // Read-only memslots: a write with a syndrome is MMIO, one without fails KVM_RUN.
  ro("read64", 0),
  ro("ld_preidx", 0),
  ro("at", 0),
  ro("exec", 0),
  ro("write64", 1),
  roFails("dc_zva"),
  roFails("cas"),
  roFails("st_preidx"),
  // Nothing of that is in the dirty log.
  roLog(ro("read64", 0)),
  roLog(ro("ld_preidx", 0)),
  roLog(ro("at", 0)),
  roLog(ro("exec", 0)),
  roLog(ro("write64", 1)),
  roLog(roFails("dc_zva")),
  roLog(roFails("cas")),
  roLog(roFails("st_preidx")),
  // CAS reads first, so its page comes in before the write is refused; the write of the VMM that answers the MMIO faults too.
  roUffd(ro("read64", 0), 2),
  roUffd(ro("ld_preidx", 0), 2),
  roUffd(ro("at", 0), 1),
  roUffd(ro("exec", 0), 2),
  roUffd(ro("write64", 1), 2),
  roUffd(roFails("cas"), 2),
  roUffd(roFails("dc_zva"), 1),
  roUffd(roFails("st_preidx"), 1),
];

/** `uffd read64 with_af`. */
export function rowName(r: Row): string {
  const af = r.withAf ? " with_af" : r.family === "hole" || r.family === "uffd" || r.logDirty ? " no_af" : "";
  return `${r.family} ${r.access}${r.readOnly ? "" : af}`;
}
