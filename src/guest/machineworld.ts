/** The names that the real machine knows, and a machine for a variant of a script. */
import { MNEMONICS } from "../arch/a64forms.js";
import { CACHE_MODELS, type CacheModel } from "../arch/cachemaintenance.js";
import { assemble } from "../arch/assemble.js";
import { APEIS, type Apei } from "../arch/memoryerrors.js";
import type { BufferMode } from "../arch/ordering.js";
import type { Combining, FailedRead, SerialisationPoint } from "../vfio/fabric.js";
import { UNSUPPORTED_ATOMICS, type UnsupportedAtomics } from "../arch/profile.js";
import { CPU_PROFILES, cpuProfile } from "../arch/features.js";
import { registerNames } from "../arch/sysregs.js";
import { decisionNames, ERA_ALIASES, ERAS, findDecision, findEra } from "../eras.js";
import { Machine, type MachineOptions } from "../machine.js";
import { COSTS } from "../sim/costs.js";
import { eventCatalogue, findEvent } from "../sim/events.js";
import { KNOWN_DEVICES } from "../vfio/devicespec.js";
import type { MachineConfig, VariantConfig } from "./compile.js";
import type { World } from "./world.js";

export const PROFILES = ["architectural", "recorded"] as const;

/** Eras in order, aliases behind them. */
export function eraNames(): string[] {
  return [...ERAS.map((e) => e.name), ...Object.keys(ERA_ALIASES)];
}

/** What to say of a release that is no row: "it lies between v5.8 and v5.11". Orders names for people; no model asks it. */
export function eraHint(name: string): string {
  // A release, a stable release, a release candidate; a number alone is a series: v7 is v7.0.
  const release = /^v?([0-9]{1,3})(\.[0-9]{1,3})?(\.[0-9]{1,3})?(-rc[0-9]+)?$/.exec(name);
  if (release === null) return "";
  const plain = `v${release[1]!}${release[2] ?? ".0"}${release[3] === undefined || /^\.0+$/.test(release[3]) ? "" : release[3]}`;
  if (findEra(plain) !== undefined) return `did you mean "${plain}"?`;
  const parts = (era: string): number[] => (era.match(/[0-9]+/g) ?? []).map(Number);
  const order = (a: string, b: string): number => {
    const [x, y] = [parts(a), parts(b)];
    for (let i = 0; i < 3; i++) if ((x[i] ?? 0) !== (y[i] ?? 0)) return (x[i] ?? 0) - (y[i] ?? 0);
    return 0;
  };
  const sorted = ERAS.map((e) => e.name).sort(order);
  const before = sorted.findLast((e) => order(e, plain) < 0);
  const after = sorted.find((e) => order(e, plain) > 0);
  if (before === undefined) return `the oldest era is ${sorted[0]!}`;
  if (after === undefined) return `the newest era is ${before}`;
  return `it lies between the eras ${before} and ${after}; faultline kernels --diff ${before} ${after} shows what changed on the way`;
}

export const machineWorld: World = {
  eras: eraNames(),
  eraHint,
  cpus: Object.keys(CPU_PROFILES),
  cpuProblem: (name) => {
    try {
      cpuProfile(name);
      return "";
    } catch (e) {
      return (e as Error).message;
    }
  },
  devices: [...Object.keys(KNOWN_DEVICES), "recorded"],
  profiles: PROFILES,
  atomics: UNSUPPORTED_ATOMICS,
  caches: [...CACHE_MODELS, "off"],
  apeis: [...APEIS, "none"],
  costs: Object.keys(COSTS),
  decisions: decisionNames(),
  decisionValues: (name) => findDecision(name)?.values.map(String) ?? [],
  get events() {
    return eventCatalogue().map((e) => e.name);
  },
  eventFields: (name) => findEvent(name)?.fields,
  assembler: { assemble, mnemonics: MNEMONICS },
  registers: registerNames(),
};

/** The options of a machine as the script's header describes it, of the era and CPU of one variant. */
export function machineOptions(config: MachineConfig, variant: VariantConfig): MachineOptions {
  return {
    kernel: variant.kernel,
    cpu: variant.cpu,
    set: variant.set,
    seed: variant.seed,
    lockdep: true,
    costs: config.costs,
    devices: [...config.devices],
    ...(variant.profile === undefined ? {} : { profile: variant.profile as (typeof PROFILES)[number] }),
    ...(variant.buffers === undefined ? {} : { buffers: variant.buffers as BufferMode }),
    fabric: {
      ...(variant.serialization === undefined ? {} : { serialisation: variant.serialization as SerialisationPoint }),
      ...(variant.failedRead === undefined ? {} : { failedRead: variant.failedRead as FailedRead }),
      ...(variant.maxPayload === undefined ? {} : { maxPayload: variant.maxPayload }),
      ...(variant.combining === undefined ? {} : { combining: variant.combining as Combining }),
      relaxedOrdering: variant.relaxedOrdering === "on",
      noSnoop: variant.noSnoop === "on",
    },
    ...(variant.peripheralBlock === undefined ? {} : { peripheralBlock: variant.peripheralBlock }),
    strictShareability: variant.shareability === "strict",
    ...(variant.atomics === undefined ? {} : { unsupportedAtomics: variant.atomics as UnsupportedAtomics }),
    ...(variant.cache === undefined || variant.cache === "off" ? {} : { cache: variant.cache as CacheModel }),
    ...(variant.apei === undefined || variant.apei === "none" ? {} : { apei: variant.apei as Apei }),
    ...(config.ram === undefined ? {} : { ram: config.ram }),
    ...(config.cpus === undefined ? {} : { cpus: config.cpus }),
  };
}

/** Such a machine. @param more for an explorer: the registry notes what is looked at; hardware's steps are its own */
export function machineFor(
  config: MachineConfig,
  variant: VariantConfig,
  more: Pick<MachineOptions, "watchReads" | "hardware"> = {},
): Machine {
  return new Machine({ ...machineOptions(config, variant), ...more });
}
