/** set_memory_region_test: what KVM_SET_USER_MEMORY_REGION accepts. */
import { MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ } from "../mmu/vmflags.js";
import { BLOCK, GuestVm, IPA_TOP, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, PAGE } from "./guestvm.js";
import { answer, type Case, type Checks, type Selftest, type SelftestOptions } from "./report.js";

const KVM_CAP_NR_MEMSLOTS = 10;
/** User addresses end here. */
const TASK_SIZE = 2 ** 48;
const GPA = 0x80000000;
const SUPPORTED = KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY;

/** A VM with 16 MiB of memory at `hva`, and slot 0 of 2 MiB over its start where asked. */
function build(options: SelftestOptions, slot: boolean): { readonly g: GuestVm; readonly hva: number; set(r: Partial<Call>): string } {
  const g = new GuestVm(options);
  const { hva } = g.backing("anonymous", 8 * BLOCK);
  const set = (r: Partial<Call>): string =>
    answer(g.vm.setUserMemoryRegion({ slot: 0, flags: 0, guestPhysAddr: GPA, memorySize: BLOCK, userspaceAddr: hva, ...r }));
  if (slot) set({});
  return { g, hva, set };
}
type Call = { slot: number; flags: number; guestPhysAddr: number; memorySize: number; userspaceAddr: number };

/** Every flag bit alone, and with dirty logging: only the supported ones make a slot. */
function flags(c: Checks, options: SelftestOptions): void {
  const { set } = build(options, false);
  for (let bit = 0; bit < 32; bit++) {
    const flag = (1 << bit) >>> 0;
    for (const both of [flag, (flag | KVM_MEM_LOG_DIRTY_PAGES) >>> 0]) {
      if (both !== flag && flag === KVM_MEM_LOG_DIRTY_PAGES) continue;
      const ok = (both & ~SUPPORTED) === 0;
      c.expect(`flags 0x${both.toString(16)}`, ok ? "0" : "EINVAL", set({ flags: both }));
      if (ok) set({ memorySize: 0 });
    }
  }
}

/** As many slots as the capability says, and not one more. */
function maxSlots(c: Checks, options: SelftestOptions): void {
  const g = new GuestVm(options);
  const most = g.vm.checkExtension(KVM_CAP_NR_MEMSLOTS);
  const size = BLOCK;
  const hva = g.machine.host.mmap({ length: (most + 1) * size, flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, align: BLOCK });
  const add = (slot: number): number =>
    g.vm.setUserMemoryRegion({ slot, flags: 0, guestPhysAddr: slot * size, memorySize: size, userspaceAddr: hva + slot * size });
  let made = 0;
  while (made < most && add(made) === 0) made++;
  c.expect("memslots made: KVM_CAP_NR_MEMSLOTS", most, made);
  c.expect("one more", "EINVAL", answer(add(most)));
}

interface Rule {
  readonly name: string;
  /** There is a slot 0 of 2 MiB at GPA before. */
  readonly slot: boolean;
  readonly region: (hva: number) => Partial<Call>;
  /** Fixed, or as the release answers. */
  readonly expected: string | ((g: GuestVm) => string);
  /** What the VMM does before. */
  readonly prepare?: (g: GuestVm, hva: number) => void;
}

const RULES: readonly Rule[] = [
  { name: "size is no multiple of a page", slot: false, region: () => ({ memorySize: BLOCK + 1 }), expected: "EINVAL" },
  { name: "guest address is no multiple of a page", slot: false, region: () => ({ guestPhysAddr: GPA + 8 }), expected: "EINVAL" },
  { name: "host address is no multiple of a page", slot: false, region: (hva) => ({ userspaceAddr: hva + 8 }), expected: "EINVAL" },
  { name: "host address beyond the user's", slot: false, region: () => ({ userspaceAddr: TASK_SIZE }), expected: "EINVAL" },
  { name: "slot number beyond the limit", slot: false, region: () => ({ slot: 0xffff }), expected: "EINVAL" },
  { name: "another address space", slot: false, region: () => ({ slot: 1 << 16 }), expected: "EINVAL" },
  { name: "more than 2^31 - 1 pages", slot: false, region: () => ({ memorySize: 2 ** 31 * PAGE }), expected: "EINVAL" },
  { name: "beyond the VM's guest addresses", slot: false, region: () => ({ guestPhysAddr: IPA_TOP }), expected: "EFAULT" },
  {
    name: "up to the end of the VM's guest addresses",
    slot: false,
    region: () => ({ guestPhysAddr: IPA_TOP - BLOCK }),
    expected: (g) => (g.defaults.kvm.memslotIpaLimit === "exact" ? "0" : "EFAULT"),
  },
  {
    name: "a writable slot over memory that is read-only",
    slot: false,
    region: () => ({}),
    expected: (g) => (g.defaults.kvm.memslotWriteCheck === "eperm" ? "EPERM" : "0"),
    prepare: (g, hva) => void g.machine.host.mprotect(hva, BLOCK, PROT_READ),
  },
  { name: "a slot that is not there is deleted", slot: false, region: () => ({ memorySize: 0 }), expected: "EINVAL" },
  { name: "memory that is not mapped", slot: false, region: () => ({ userspaceAddr: 0x10000 }), expected: "0" },
  { name: "nothing changes", slot: true, region: () => ({}), expected: "0" },
  { name: "dirty logging is switched on", slot: true, region: () => ({ flags: KVM_MEM_LOG_DIRTY_PAGES }), expected: "0" },
  { name: "the slot becomes read-only", slot: true, region: () => ({ flags: KVM_MEM_READONLY }), expected: "EINVAL" },
  { name: "the slot grows", slot: true, region: () => ({ memorySize: 2 * BLOCK }), expected: "EINVAL" },
  { name: "the slot gets other memory", slot: true, region: (hva) => ({ userspaceAddr: hva + BLOCK }), expected: "EINVAL" },
  { name: "the slot moves", slot: true, region: () => ({ guestPhysAddr: GPA + 4 * BLOCK }), expected: "0" },
  { name: "the slot is deleted", slot: true, region: () => ({ memorySize: 0 }), expected: "0" },
  { name: "another slot at the same place", slot: true, region: () => ({ slot: 1 }), expected: "EEXIST" },
  {
    name: "another slot over its last page",
    slot: true,
    region: () => ({ slot: 1, guestPhysAddr: GPA + BLOCK - PAGE }),
    expected: "EEXIST",
  },
  { name: "another slot behind it", slot: true, region: () => ({ slot: 1, guestPhysAddr: GPA + BLOCK }), expected: "0" },
];

export const setMemoryRegionTest: Selftest = {
  name: "set_memory_region_test",
  title: "the checks of KVM_SET_USER_MEMORY_REGION",
  cases: [
    { name: "flags", run: flags },
    { name: "maximum number of memslots", run: maxSlots },
    ...RULES.map((rule): Case => ({
      name: rule.name,
      run: (c, o) => {
        const { g, hva, set } = build(o, rule.slot);
        rule.prepare?.(g, hva);
        const expected = typeof rule.expected === "string" ? rule.expected : rule.expected(g);
        c.expect("KVM_SET_USER_MEMORY_REGION", expected, set(rule.region(hva)));
      },
    })),
  ],
};
