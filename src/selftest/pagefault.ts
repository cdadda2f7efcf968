/** page_fault_test: runs a row of the table on a VM of its own and checks what the row expects. */
import type { Case, Checks, Selftest, SelftestOptions } from "./report.js";
import { Skip } from "./report.js";
import { BLOCK, DATA_SLOT, GuestVm, IPA_TOP, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, PAGE, PROGRAM, PT_SLOT } from "./guestvm.js";
import { PAGE_FAULT_ROWS, rowName, type Access, type Row } from "./pagefaultrows.js";

/** VA of the page under test, and of an alias of the table page that holds its descriptor. */
const TEST_VA = 0xc0000000;
const TABLE_VA = 0xb0000000;
const TEST_DATA = 0x0123456789abcdefn;
/** Code at 8 bytes into the page: returns this. */
const EXEC_RESULT = 0x77n;
/** Report offsets. */
const MARK = 0;
const VALUE = 8;
const DESCRIPTOR = 16;
const DONE = 24;

const AF = 1n << 10n;

/** What an access executes (x0: address, x1: data; result in x4), and what the result must be. */
const ACCESSES: Readonly<Record<Access, { readonly code: readonly string[]; readonly result: bigint }>> = {
  read64: { code: ["ldr x4, [x0]"], result: 0n },
  write64: { code: ["str x1, [x0]", "ldr x4, [x0]"], result: TEST_DATA },
  cas: { code: ["mov x4, xzr", "casal x4, x1, [x0]", "ldr x4, [x0]"], result: TEST_DATA },
  ld_preidx: { code: ["sub x5, x0, #8", "ldr x4, [x5, #8]!"], result: 0n },
  st_preidx: { code: ["sub x5, x0, #8", "str x1, [x5, #8]!", "ldr x4, [x5]"], result: TEST_DATA },
  at: { code: ["at s1e1r, x0", "isb", "mrs x4, par_el1", "and x4, x4, #1"], result: 0n },
  dc_zva: { code: ["dc zva, x0", "ldr x4, [x0, #8]"], result: 0n },
  exec: { code: ["add x6, x0, #8", "blr x6", "mov x4, x0"], result: EXEC_RESULT },
};

/** The guest's program for a row. */
function program(row: Row): string[] {
  const prepare = [
    "mrs x2, tcr_el1",
    "orr x2, x2, #0x8000000000",
    "msr tcr_el1, x2",
    "isb",
    "ldr x2, [x21]",
    "and x2, x2, #0xfffffffffffffbff",
    "str x2, [x21]",
    "dsb ishst",
    "tlbi vaae1is, x22",
    "dsb ish",
    "isb",
  ];
  return [
    ...(row.withAf ? prepare : []),
    `str xzr, [x28, #${MARK}]`,
    ...ACCESSES[row.access].code,
    `str x4, [x28, #${VALUE}]`,
    ...(row.withAf ? ["ldr x2, [x21]", `str x2, [x28, #${DESCRIPTOR}]`] : []),
    `str xzr, [x28, #${DONE}]`,
    "b #0",
  ];
}

/** Counts of one run. */
interface Seen {
  mmioExits: number;
  failVcpuRuns: number;
}

function runRow(row: Row, c: Checks, options: SelftestOptions): void {
  const g = new GuestVm(options);
  const { features } = g.machine;
  if (row.withAf && !features.hafdbs) throw new Skip("the CPU has no hardware access flag (FEAT_HAFDBS)");
  if (row.access === "cas" && !features.lse) throw new Skip("the CPU has no CAS (FEAT_LSE)");

  // Three memslots: code at 0, page tables and data at the top of the IPA space.
  const kind = options.backing ?? "anonymous";
  const unit = kind === "anonymous_hugetlb_2mb" ? BLOCK : PAGE;
  const ptSize = Math.ceil((26 * PAGE) / unit) * unit;
  // The last page of the IPA space stays free.
  const dataGpa = Math.floor((IPA_TOP - PAGE - unit) / unit) * unit;
  const flags = (row.readOnly ? KVM_MEM_READONLY : 0) | (row.logDirty ? KVM_MEM_LOG_DIRTY_PAGES : 0);
  g.boot(dataGpa - ptSize, ptSize, kind, flags);
  const data = g.add(DATA_SLOT, dataGpa, unit, kind, flags);
  const pt = g.regions.find((r) => r.slot === PT_SLOT)!;
  g.map(TEST_VA, dataGpa, 1);
  const descriptor = g.descriptor(TEST_VA);
  g.map(TABLE_VA, descriptor - (descriptor % PAGE), 1);
  g.program(dataGpa + 8, [`mov x0, #${EXEC_RESULT}`, "ret"]);
  g.program(PROGRAM, program(row));
  const servedPt = row.uffd ? g.serveMissing(pt) : undefined;
  const servedData = row.uffd ? g.serveMissing(data) : undefined;
  g.start({ x0: BigInt(TEST_VA), x1: TEST_DATA, x21: BigInt(TABLE_VA + (descriptor % PAGE)), x22: BigInt(TEST_VA / PAGE) });

  const seen: Seen = { mmioExits: 0, failVcpuRuns: 0 };
  let ended = "";
  while (ended === "") {
    const e = g.run();
    if (e.kind === "exception") ended = `exception, ESR 0x${e.esr.toString(16)}, FAR 0x${e.far.toString(16)}`;
    else if (e.kind === "exit") {
      const { result } = e;
      if (result.ret === 0 && result.exit.reason === "MMIO") {
        seen.mmioExits++;
        c.expect("MMIO exit: address", `0x${dataGpa.toString(16)}`, `0x${result.exit.physAddr.toString(16)}`);
        c.expect("MMIO exit: data", TEST_DATA, result.exit.data);
        // The VMM stores for the guest; under userfaultfd it sleeps there like a vCPU.
        g.sleeping(g.machine.host.agent, { call: "write", addr: data.hva, size: 8, value: result.exit.data });
        if (seen.mmioExits > 3) ended = "MMIO for ever";
      } else if (result.ret < 0) {
        seen.failVcpuRuns++;
        ended = e.text;
      } else ended = e.text;
    } else if (e.offset === MARK) mark();
    else if (e.offset === VALUE) c.expect(`guest: ${row.access} gives`, ACCESSES[row.access].result, e.data);
    else if (e.offset === DESCRIPTOR) c.expect("guest: access flag set by hardware", true, (e.data & AF) !== 0n);
    else if (e.offset === DONE) ended = "done";
  }

  function mark(): void {
    // What the preparation wrote is no part of the answer.
    if (row.logDirty) for (const slot of [PT_SLOT, DATA_SLOT]) g.vm.getDirtyLog(slot);
    for (const s of g.served) g.save(s);
    if (row.holes.pt) g.punch(pt);
    if (row.holes.data) g.punch(data);
  }

  const { expected } = row;
  c.expect(
    expected.failVcpuRuns > 0 ? "KVM_RUN fails with" : "guest comes to its end",
    expected.failVcpuRuns > 0 ? "ENOSYS" : "done",
    ended,
  );
  c.expect("mmio_exits", expected.mmioExits, seen.mmioExits);
  c.expect("fail_vcpu_runs", expected.failVcpuRuns, seen.failVcpuRuns);
  c.expect("uffd_faults", expected.uffdFaults, (servedPt?.faults ?? 0) + (servedData?.faults ?? 0));
  if (row.uffd) {
    c.expect("uffd_faults in the page tables", 1, servedPt!.faults);
    c.expect("uffd_faults in the data", expected.uffdFaults - 1, servedData!.faults);
  }
  if (row.dirty !== undefined) {
    const page = (descriptor - (descriptor % PAGE) - pt.gpa) / PAGE;
    c.expect("dirty log: data page", row.dirty.data, g.vm.getDirtyLog(DATA_SLOT).pages.includes(0));
    c.expect("dirty log: page of the descriptor", row.dirty.pt, g.vm.getDirtyLog(PT_SLOT).pages.includes(page));
  }
}

export const pageFaultTest: Selftest = {
  name: "page_fault_test",
  title: "stage-2 faults of every kind of access, with userfaultfd, dirty log and read-only memslots",
  cases: PAGE_FAULT_ROWS.map((row): Case => ({ name: rowName(row), run: (c, o) => runRow(row, c, o) })),
};
