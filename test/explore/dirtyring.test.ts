/** What dirty rings promise, in every interleaving of a store with the VMM that collects and resets: and what breaks the promise. */
import { describe, expect, test } from "vitest";
import { observer, stage } from "../../src/explore/explore.js";
import type { Wrong } from "../../src/explore/invariants/index.js";
import { Search } from "../../src/explore/search.js";
import { compile } from "../../src/guest/compile.js";
import { machineWorld } from "../../src/guest/machineworld.js";
import type { Machine } from "../../src/machine.js";

const SCRIPT = `variant v6.12
KVM_CREATE_VM(dirty_ring=4096)
let RAM = 0x80000000
let ram = mmap(0, 4K)
write64(ram, 7)
KVM_SET_USER_MEMORY_REGION(slot=1, flags=KVM_MEM_LOG_DIRTY_PAGES, guest_phys_addr=RAM, memory_size=4K, userspace_addr=ram)
guest { mov x1, 8; str x1, [RAM] }
par {
  guest { mov x1, 9; str x1, [RAM] }
  vmm { dirty_ring_collect(); KVM_RESET_DIRTY_RINGS() }
}
`;
const LOST = "no-lost-ring-entry";

/** @returns how the search ends, or what is violated */
function explored(plant: (m: Machine) => void): string {
  const program = compile("ring.guest", SCRIPT, machineWorld);
  const s = stage(program, program.variants[0]!, [LOST])!;
  plant(s.machine);
  const last: { wrong: Wrong | undefined } = { wrong: undefined };
  const { ending } = new Search(s.system, observer(s, last), {}).run();
  return last.wrong === undefined ? ending : last.wrong.what;
}

describe("a page with an entry in a ring that is not reset, or a store that faults", () => {
  test("holds however store, collection and reset interleave", () => {
    expect(explored(() => undefined)).toBe("complete");
  });

  test("breaks where a store is not pushed", () => {
    expect(
      explored(({ kvm: { rings } }) => {
        rings.push = () => undefined;
      }),
    ).toBe("stage 2 lets the guest write page 0x0 of slot 1 unseen: no ring has an entry for it");
  });

  test("breaks where the reset does not protect what it takes out", () => {
    expect(
      explored(({ kvm: { stage2 } }) => {
        stage2.wrprotectRange = () => undefined;
      }),
    ).toBe("stage 2 lets the guest write page 0x0 of slot 1 unseen: no ring has an entry for it");
  });

  test("breaks where the reset does not flush: a store goes through the TLB's old entry", () => {
    expect(
      explored(({ kvm: { stage2 } }) => {
        stage2.flushRemoteTlbs = () => undefined;
      }),
    ).toBe("the TLB of CPU 0 lets the guest write page 0x0 of slot 1 unseen: no ring has an entry for it");
  });
});
