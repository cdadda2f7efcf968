/**
 * What the VMM or the guest can do about an outcome, by the branch that answered. These follow from the kernel's
 * rules and were not run; what was run stands in whatif.ts.
 */
import type { Link } from "./chain.js";

interface Hint {
  /** What links the chain must have: what, and a part of the answer. */
  readonly when: readonly (readonly [string, RegExp])[];
  readonly text: string;
}

const HINTS: readonly Hint[] = [
  {
    when: [["branch", /write fault on a read-only PFNMAP entry/]],
    text: "the VMM can write every page once before the guest does: its own fault calls pfn_mkwrite and makes the entry writable",
  },
  {
    when: [["branch", /no VMA at the address/]],
    text: "nothing is mapped at the slot's host address: map it before the guest touches the page, or delete the slot first",
  },
  {
    when: [["branch", /MMIO: no memslot/]],
    text: "an access outside of every memslot is an MMIO exit by design: the VMM emulates it, or gives the address a slot",
  },
  {
    when: [["branch", /read-only memslot/]],
    text: "the slot has KVM_MEM_READONLY: a write to it is an MMIO exit by design",
  },
  {
    when: [["MMIO", /no valid syndrome/]],
    text: "the guest can use a single LDR or STR without write-back: only those have a valid syndrome (ISV = 1) that the VMM can emulate",
  },
  {
    when: [["branch", /execute from device memory|fetch without memslot|refused fetch/]],
    text: "the guest can copy code to RAM first: device memory is not executable",
  },
  {
    when: [["driver", /SIGBUS/]],
    text: "the device's memory space is off (PCI_COMMAND.MEM, or a reset): the VMM must take the slot away before it lets the guest turn decode off",
  },
  {
    when: [["branch", /poisoned page/]],
    text: "the host's memory is broken there: the VMM gets SIGBUS and can map another page in its place",
  },
  {
    when: [["branch", /COW PFNMAP refused/]],
    text: "map the device with MAP_SHARED: a private PFNMAP mapping would be copied on write",
  },
];

export function hintsFor(chain: readonly Link[]): string[] {
  return HINTS.filter((h) => h.when.every(([what, text]) => chain.some((l) => l.what === what && text.test(l.answer)))).map((h) => h.text);
}
