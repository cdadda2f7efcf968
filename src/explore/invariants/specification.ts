/** The tables compared with the pure specification (src/explore/spec): what the other invariants do not look at is found too. */
import { wrongGuest, wrongHost, type World } from "../spec/spec.js";
import type { Machine } from "../../machine.js";
import { PART_GROUPS } from "../groups.js";
import { worldOf } from "../spec/world.js";
import { LOGGING_BUSY, inside } from "./busy.js";
import { unpublished } from "./stage2page.js";
import type { Invariant, Watch } from "./invariant.js";

/** The world of the last state that was looked at, by the hash of its tables: the guest's and the host's rules ask for the same. */
const worlds = new WeakMap<Machine, { low: number; high: number; world: World }>();

function worldNow({ machine }: Watch): World {
  const { state } = machine.sim;
  if (!state.recording) return worldOf(machine);
  let low = 0;
  let high = 0;
  for (const g of PART_GROUPS.tables) {
    low ^= state.hashLo[g]!;
    high ^= state.hashHi[g]!;
  }
  const known = worlds.get(machine);
  if (known?.low === low && known.high === high) return known.world;
  const world = worldOf(machine);
  worlds.set(machine, { low, high, world });
  return world;
}

export const specGuest: Invariant = {
  name: "guest-mapping-as-specified",
  statement:
    "Every guest page that stage 2 maps has the page, the permission and the memory type that the specification allows, and is in the dirty set if it is logged and writable.",
  source: "src/explore/spec, from Documentation/virt/kvm/locking.rst, api.rst (KVM_SET_USER_MEMORY_REGION, KVM_GET_DIRTY_LOG)",
  looksAt: ["tables", "dirty"],
  holds: (w) => wrongGuest(worldNow(w), () => !inside(w.machine, LOGGING_BUSY)),
  excused: unpublished,
};

/** Calls that take VMAs out of the tree, or change them, before their entries. */
const CHANGING = ["doMunmap", "munmap", "mprotect", "mremap", "mmap", "exitMmap"];

export const specHost: Invariant = {
  name: "host-mapping-as-specified",
  statement:
    "Every entry of the host's tables lies in a VMA, allows no write that the VMA does not, and a private page that is writable is mapped once.",
  source: "src/explore/spec, from mm/memory.c: do_wp_page, wp_can_reuse_anon_folio; Documentation/mm/page_tables.rst",
  looksAt: ["tables"],
  holds: (w) => wrongHost(worldNow(w)),
  excused: (w) => inside(w.machine, CHANGING),
};
