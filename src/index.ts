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
  type UserMemoryRegion2,
  HostProcess,
  Userfault,
  Vcpu,
  Vfio,
  VfioDevice,
  Vm,
} from "./machine.js";
export { ERAS, ERA_ALIASES, DECISIONS, eraRow, findEra, answer, type Era, type EraRow, type Answer } from "./eras.js";
export { type Decision, type DecisionSet, type Row, type Source } from "./sim/decisions.js";
export { type kvmDecisions } from "./kvm/decisions.js";
export { type mmDecisions } from "./mmu/decisions.js";
export { type vfioDecisions } from "./vfio/decisions.js";
export {
  cpuProfile,
  customProfile,
  type CpuFeatures,
  type FeatureOverrides,
  type FeatureSwitches,
  type IdRegisters,
  type Words,
} from "./arch/features.js";
export { type MachineProfile } from "./arch/profile.js";
export { type ShmemPolicy, type ThpPolicy } from "./mmu/thpsettings.js";
export { type BarSpec, type DeviceSpec, type ModelName, type ResetMethod } from "./vfio/devicespec.js";
export { type FabricOptions } from "./vfio/fabric.js";
export { type OrderingOp } from "./vfio/orderingcalls.js";
export { type Args, type CacheLineOp, type CallName } from "./api/calls.js";
export { callNumber, type CallNumber } from "./api/dispatch.js";
export { eventCatalogue, type EventDecl, type EventHead, type EventRecord, type Field, type FieldKind } from "./sim/events.js";
export { errnoName } from "./sim/errno.js";
export {
  type DeviceSnapshot,
  type MachineSnapshot,
  type MemslotSnapshot,
  type VcpuSnapshot,
  type VmaSnapshot,
  type VmSnapshot,
} from "./api/snapshot.js";
export { Debugger } from "./inspect/debugger.js";
export { type Timeline } from "./inspect/timeline.js";
export { openDebugger, type DebugOptions } from "./inspect/open.js";
export { dump, DUMPS, type Dump, type DumpName } from "./inspect/dump.js";
export { FaultlineError } from "./sim/errors.js";
