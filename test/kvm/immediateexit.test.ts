/** kvm_run.immediate_exit and KVM_SET_VCPU_EVENTS while an MMIO access waits for its completion, as real kernels did. */
import { join } from "node:path";
import { reproduced } from "../conform/realkernels.js";

reproduced(join(import.meta.dirname, "immediateexit"), "a real kernel's %s is reproduced", 20);
