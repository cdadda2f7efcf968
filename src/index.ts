/** The library's face: `import { Machine } from "faultline"`. */
export {
  Machine,
  DEFAULT_RAM,
  type Call,
  type CallResult,
  type EventName,
  type Events,
  type ExitInfo,
  type MachineOptions,
  type RegionInfo,
  type RunResult,
  type SignalInfo,
  type Stage2Leaf,
  type UserfaultInfo,
  type UserMemoryRegion,
  HostProcess,
  Userfault,
  Vcpu,
  Vfio,
  VfioDevice,
  Vm,
} from "./machine.js";
export { ERAS, ERA_ALIASES, DECISIONS, eraRow, findEra, answer, type Era, type EraRow, type Answer } from "./eras.js";
export { cpuProfile, customProfile, type CpuFeatures } from "./arch/features.js";
export { eventCatalogue, type EventDecl, type EventRecord, type Field } from "./sim/events.js";
export { errnoName } from "./sim/errno.js";
export { Debugger } from "./inspect/debugger.js";
export { openDebugger, type DebugOptions } from "./inspect/open.js";
export { dump, DUMPS, type Dump, type DumpName } from "./inspect/dump.js";
export { FaultlineError } from "./sim/errors.js";
