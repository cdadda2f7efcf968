/** The locks of page tables in every interleaving: who holds one across steps is met, waited for, and nobody changes its entries. */
import { describe, expect, test } from "vitest";
import { observer, stage, type Stage } from "../../src/explore/explore.js";
import type { Wrong } from "../../src/explore/invariants/index.js";
import { Search, type SearchResult } from "../../src/explore/search.js";
import { compile } from "../../src/guest/compile.js";
import { machineWorld } from "../../src/guest/machineworld.js";

/**
 * A thread copies the zero page: its change_pte waits for mmu_lock under the lock of the table, while a kernel thread holds
 * mmu_lock in the middle of an unmap.
 */
const COPY = `variant v6.8 { set unmapTableTlbi = no-hint }
let RAM = 0x80000000
let mem = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)
madvise(mem, 2M, MADV_NOHUGEPAGE)
write64(mem + 4K, 7)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=mem)
let zero = read64(mem)
guest { mov x1, RAM; ldr x2, [x1, 4096] }
par {
  vmm { write64(mem, 7) }
  WITH
}
`;
/** Aging asks KVM under the lock of the table. */
const AGE = COPY.replace("vmm { write64(mem, 7) }", "kthread kswapd { clear_flush_young(mem + 4K, 4K) }");
const MIGRATE = "kthread kcompactd { migrate_pages(mem + 4K) }";

function staged(source: string, other: string): Stage {
  const program = compile("ptl.guest", source.replace("WITH", other), machineWorld);
  return stage(program, program.variants[0]!)!;
}

/** @returns how the search ended, and for which locks of tables somebody had to wait */
function explored(s: Stage, bound?: number): { found: SearchResult; wrong: Wrong | undefined; waited: ReadonlySet<string> } {
  const waited = new Set<string>();
  s.machine.on("lock_contended", (e) => {
    if (String(e["lock"]).startsWith("page_table_lock")) waited.add(e.agent);
  });
  const last: { wrong: Wrong | undefined } = { wrong: undefined };
  const found = new Search(s.system, observer(s, last), bound === undefined ? {} : { bound }).run();
  return { found, wrong: last.wrong, waited };
}

const OTHERS: readonly (readonly [string, string, string])[] = [
  ["another fault", `${MIGRATE}\n vmm second { write64(mem + 8K, 1) }`, "second"],
  ["migration", MIGRATE, "kcompactd"],
];

describe("a page-table lock that is held across steps", () => {
  test.each(OTHERS)("is waited for by %s, and nothing is wrong", (_, other, who) => {
    const { found, wrong, waited } = explored(staged(COPY, other), 2);
    expect([wrong?.what, found.ending]).toEqual([undefined, "complete"]);
    expect([...waited]).toContain(who);
  });

  test("is held by aging while it asks KVM", () => {
    const { found, wrong, waited } = explored(staged(AGE, `vmm second { madvise(mem + 4K, 4K, MADV_DONTNEED) }`), 2);
    expect([wrong?.what, found.ending]).toEqual([undefined, "complete"]);
    expect([...waited]).toContain("second");
  });

  test("is missed where nobody asks for it", () => {
    const s = staged(COPY, MIGRATE);
    s.machine.mm.pt.locks.taken = () => false;
    const { wrong } = explored(s, 2);
    expect([wrong?.invariant.name, wrong?.what.replace(/0x[0-9a-f]+/, "…")]).toEqual([
      "lock-held",
      "kcompactd touches what page_table_lock … guards without it",
    ]);
  });
});
