/** What the language's own words mean: statements, settings of the header, conditions of an expectation. */
import { BUFFER_MODES, SHAREABILITIES } from "../arch/ordering.js";
import type { CONDITION_WORDS, MACHINE_KEYS, STATEMENT_WORDS, VARIANT_KEYS } from "../guest/parser.js";
import { ON_OFF } from "../guest/compile.js";
import { machineWorld } from "../guest/machineworld.js";
import { word, type Word } from "./word.js";
import { COMBININGS, FAILED_READS, PAYLOADS, SERIALISATION_POINTS } from "../vfio/fabric.js";

/** [what it does, what is put in]. `$1` is where the cursor goes. */
type Said = readonly [detail: string, insert?: string];

export const STATEMENTS: Readonly<Record<(typeof STATEMENT_WORDS)[number], Said>> = {
  title: ["what the script shows, in one sentence", 'title "$1"'],
  source: ["where that comes from: mail thread, commit, file and function; any number", 'source "$1"'],
  machine: ["what all variants share: kernel, CPU, RAM, devices", "machine {\n  $1\n}"],
  variant: ["one machine to run the script on; a variant named like an era runs under it", "variant ${1:v6.12}"],
  let: ["names a value; a name has one value, in the block where it is given", "let ${1:name} = $2"],
  for: ["repeats a block: for addr in A..B step S", "for ${1:addr} in ${2:RAM}..${3:RAM + 2M} step ${4:4K} {\n  $5\n}"],
  guest: ["A64 code that a vCPU runs, until its end", "guest {\n  $1\n}"],
  vmm: ["what the VMM's thread does; inside par, one of several", "vmm {\n  $1\n}"],
  kthread: ["a kernel thread: khugepaged, kcompactd, kswapd, ksmd", "kthread ${1:khugepaged} { $2 }"],
  par: ["several agents at once; explore runs every interleaving", "par {\n  guest vcpu0 { $1 }\n  vmm { $2 }\n}"],
  on: [
    "on exception { … }: the guest's handler; on mmio read ADDR -> VALUE: the VMM's answer; on mmio leave ADDR: the block ends at that exit; on mmio ecam ADDR -> DEVICE: configuration space; on VARIANT { … }: only there",
    "on $1",
  ],
  report: [
    "a column of the run's table: a value, the count of an event, the sum of one of its fields, a type at stage 2, a write's place",
    'report "$1" $2',
  ],
  expect: ["what must come of it; a run whose expectation fails ends with status 1", "expect $1"],
};

export type SettingKey = (typeof MACHINE_KEYS)[number] | (typeof VARIANT_KEYS)[number];
/** A setting of `machine` and `variant`: what it sets, and the words that it takes if they are a list. */
export const SETTINGS: Readonly<Record<SettingKey, readonly [detail: string, values?: readonly string[]]>> = {
  kernel: ["the era", machineWorld.eras],
  cpu: ["the CPU: a profile, or a profile with features, max,-s2fwb,+dic", machineWorld.cpus],
  set: ["replaces one decision of the era: set decision = value"],
  profile: ["architectural, or recorded: departs like the machine of the recordings", machineWorld.profiles],
  buffers: ["store and gathering buffers and the PCIe fabric; weak: also write-back stores wait", BUFFER_MODES],
  serialization: ["with buffers: where a write is accepted for good", SERIALISATION_POINTS],
  failed_read: ["with buffers: what a guest's load becomes that a function answers with UR", FAILED_READS],
  max_payload: ["with buffers: Max_Payload_Size of the path, in bytes", PAYLOADS.map(String)],
  combining: [
    "with buffers: the host bridge makes one memory write of a line, or of neighbouring full lines up to Max_Payload_Size",
    COMBININGS,
  ],
  relaxed_ordering: ["with buffers: the root complex sets Relaxed Ordering on the CPUs' memory writes", ON_OFF],
  no_snoop: ["with buffers: the root complex sets No Snoop on the CPUs' memory writes", ON_OFF],
  shareability: ["with buffers: strict: inner shareable barriers do not order Device and Normal-NC accesses", SHAREABILITIES],
  peripheral_block: ["with buffers: bytes of a peripheral, to which Device-nR accesses keep their order; default: all behind a bridge"],
  atomics: ["exclusives and LSE atomics on memory that is not shareable write-back", machineWorld.atomics],
  cache: ["models the caches: modelled, where non-cacheable accesses go past them, coherent, where they look them up", machineWorld.caches],
  apei: [
    "firmware: einj, memory errors can be injected (einj_error_inject); ghes, their external aborts are claimed firmware first too",
    machineWorld.apeis,
  ],
  seed: ["seed of the run; if it is not 0 the agents of a par take turns at random"],
  ram: ["host RAM, a multiple of 2 MiB"],
  cpus: ["physical CPUs"],
  devices: ["PCI functions that are bound to vfio-pci", machineWorld.devices],
  cost: ["cycles of a named step: cost trap = 800"],
  livelock: ["exits in one place after which a guest makes no progress"],
};

export const CONDITIONS: Readonly<Record<(typeof CONDITION_WORDS)[number], Said>> = {
  host: ['host crash [in FUNCTION] ["reason"]: the host kernel crashed', "host crash"],
  no: ["none of these events since the statement before"],
  livelock: ["the guest makes no progress"],
  deadlock: ["every agent waits for another"],
  errno: ["the last call answered this error", "errno ${1:EFAULT}"],
  ok: ["the last call answered no error"],
  exit: ["KVM_RUN returned to the VMM with this reason", "exit ${1:MMIO} $2"],
  fault: ["stage-2 aborts that KVM handled (kvm_guest_fault)", "fault $1"],
  event: ["events of this name, with these fields", "event $1"],
  notifier: ["ranges that an MMU notifier announced to KVM (kvm_unmap_hva_range)", "notifier $1"],
  inject: ["KVM injected this exception into the guest", "inject ${1:dabt} $2"],
  exception: ["the guest took an exception: vector, esr, far, elr, spsr", "exception $1"],
  stage2: ["the stage-2 entry of a guest address: none, or its fields", "stage2 $1"],
  dirty: ["the pages of the last KVM_GET_DIRTY_LOG, or none", "dirty $1"],
  cache: ["the cache line of a host address is invalid, clean or dirty", "cache ${1:hva} ${2|invalid,clean,dirty|}"],
  at: ["at least N, or at most N, of these events", "at ${1|least,most|} ${2:1} $3"],
};

const list = (kind: "statement" | "condition", said: Readonly<Record<string, Said>>): readonly Word[] =>
  Object.entries(said).map(([name, [detail, insert]]) => word(kind, name, detail, insert === undefined ? {} : { insert }));

export const STATEMENT_LIST = list("statement", STATEMENTS);
export const CONDITION_LIST = list("condition", CONDITIONS);
export const settingList = (keys: readonly SettingKey[]): Word[] =>
  keys.map((k) => {
    const [detail, values] = SETTINGS[k];
    return word(
      "setting",
      k,
      detail,
      values === undefined ? {} : { doc: `${detail}.\n\nOne of ${values.map((v) => `\`${v}\``).join(", ")}.` },
    );
  });
