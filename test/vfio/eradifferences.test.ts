/** Every decision of vfio-pci: a script whose trace differs by it between two eras, or where else that is shown. */
import { describe, it } from "vitest";
import { expectComplete, expectDifference, type Shown } from "../conform/differs.js";

const SHOWN: Readonly<Record<string, Shown>> = {
  vfioModule: ["bar", "v6.1", "vfio_pci"],
  vfioSubPageBar: ["bar", "v4.10", "false"],
  vfioMmapLength: ["bars", "v4.10", "exact"],
  vfioPtes: ["bar", "v5.8", "atMmap"],
  vfioAllowAnyUncached: ["bar", "v6.9", "false"],
  vfioTrackedFault: ["bar", "v5.14", "mapsAgain"],
  vfioHugeFault: ["bar", "v6.12", "none"],
  vfioOpenZaps: ["bar", "v5.8", "false"],
  vfioMemoryLock: ["bar", "v5.8", "none"],
};

/** Shown by tests and scenarios of their own, or not to be seen in a trace. */
const OTHERS: Readonly<Record<string, string>> = {
  vfioRegionLookup: "both refuse with EINVAL: no modelled device has device-specific regions",
  vfioMmapType: "one value in all releases; the proposals are shown by scenarios/2023-nc-unmap.guest",
  vfioMarksPtes: "one value in all releases; the proposal is shown by scenarios/2024-allow-any-uncached-policies.guest",
  vfioMsixMmap: "none of the bundled devices has an MSI-X table in a mappable BAR",
  vfioCoherentMemory: "scenarios/2025-cacheable-pfnmap.guest",
  vfioPgoff: "test/vfio/mmap.test.ts",
  vfioPowerState: "test/vfio/config.test.ts",
  vfioPowerRestore: "test/vfio/pci.test.ts",
  vfioRegionRw: "test/conform/calldifferences.test.ts",
  vfioRegionRwWidth: "test/conform/calldifferences.test.ts",
  vfioIoeventfd: "test/vfio/config.test.ts",
  vfioIoeventfdWidth: "test/vfio/config.test.ts",
  vfioBarClaim: "test/vfio/mmap.test.ts",
};

describe("decisions of vfio-pci", () => {
  it("are all in one of the tables", () => expectComplete("vfio", SHOWN, OTHERS));
  it.each(Object.entries(SHOWN))("%s", (name, shown) => expectDifference(name, shown));
});
