/** Random scenarios of the recorded language (recordings/README.md): what a VMM, the host and the guest do to one backing and its slots. */
import { Rng } from "../rng.js";
import { BLOCK, hex, PAGE, randomStep, slotLine, type Scene } from "./steps.js";

const GPA = 0x80000000;
const OTHER_GPA = 0x90000000;
/** KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_ARM_NISV_TO_USER. */
const CAP_MANUAL_PROTECT = 168;
const CAP_NISV = 177;

/** How often a kind of backing is taken. Not filero: what is in the recorder's file nobody knows here. */
const KINDS = { nohuge: 4, thp: 4, anon: 2, memfd: 3, hugetlb: 3, bar2: 3 } as const;
/** Kinds that can be asked for: guest_memfd too, which kernels before v6.18 do not have. */
export const BACKINGS = [...(Object.keys(KINDS) as (keyof typeof KINDS)[]), "gmem"] as const;
export type Backing = (typeof BACKINGS)[number];
const SHMEM_ENABLED = "kernel/mm/transparent_hugepage/shmem_enabled";
/** ivshmem: plain memory behind BAR 2. What the other devices answer is their own. */
const DEVICE = "0000:00:06.0";

/** The commands of scenario `n` under a seed. @param backing this kind alone */
export function randomScenario(seed: number, n: number, backing?: Backing): string[] {
  const rng = new Rng(seed, n);
  const kind = backing ?? rng.weighted(KINDS);
  const bar = kind === "bar2";
  const scene: Scene = {
    rng,
    kind,
    bar,
    gpa: GPA + rng.pick([0, 0, PAGE, BLOCK - PAGE]),
    offset: rng.pick([0, 0, PAGE, BLOCK]),
    size: rng.pick([PAGE, 4 * PAGE, BLOCK, BLOCK + PAGE]),
    flags: kind === "gmem" ? "gmem" : rng.weighted({ "-": 12, log: 5, ro: 2, rolog: 1 }),
    other: rng.once(4) ? OTHER_GPA + rng.pick([0, PAGE]) : 0,
    forked: false,
  };
  const size = kind === "hugetlb" ? ` ${hex(2 * BLOCK)}` : bar ? "" : ` ${hex(4 * BLOCK)}`;
  const misaligned = size !== "" && kind !== "hugetlb" && rng.once(8) ? ` ${hex(rng.pick([PAGE, BLOCK / 2]))}` : "";
  const lines = ["vm"];
  // Said in each scenario that it matters in: the recorder's machine keeps it from one to the next.
  if (kind === "memfd")
    lines.unshift(`sysfs ${SHMEM_ENABLED} ${rng.weighted({ never: 3, always: 3, within_size: 1, advise: 2, force: 1 })}`);
  if (rng.once(8)) lines.push(`cap ${CAP_MANUAL_PROTECT} ${rng.pick([1, 3])}`);
  if (rng.once(10)) lines.push(`cap ${CAP_NISV} 0`);
  if (bar) lines.push(`vfio open ${DEVICE}`);
  lines.push(`back V ${kind}${size}${misaligned}`, slotLine(1, scene.gpa, scene));
  if (scene.other !== 0) lines.push(slotLine(2, scene.other, scene));
  const steps = 12 + rng.below(20);
  for (let i = 0; i < steps; i++) lines.push(...randomStep(scene));
  lines.push("s2dump");
  return lines;
}

/** As a file that the recorder takes. */
export const scenarioText = (commands: readonly string[]): string => commands.map((c) => `> ${c}\n`).join("");
