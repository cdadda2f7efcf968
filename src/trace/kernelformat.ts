/**
 * The kernel's trace points of KVM on arm64 as its format files describe them: C types, order and print
 * formats of arch/arm64/kvm/trace_arm.h, trace_handle_exit.h and include/trace/events/kvm.h. Names of fields
 * are those of the event declarations, except where the kernel's differ (`from`).
 */
import { choice, difference, either, lit, num, printReader, sym, symbolic, symbolText, type Piece, type Symbols } from "./print.js";

export interface CField {
  readonly type: string;
  readonly name: string;
  readonly size: 1 | 2 | 4 | 8;
  readonly signed: boolean;
  /** The declared field that it is filled from. */
  readonly from: string;
}
export interface KernelFormat {
  readonly fields: readonly CField[];
  readonly print: readonly Piece[];
}

const field =
  (type: string, size: CField["size"], signed: boolean) =>
  (name: string, from = name): CField => ({ type, name, size, signed, from });
const ulong = field("unsigned long", 8, false);
const ull = field("unsigned long long", 8, false);
const u64 = field("u64", 8, false);
const u32 = field("u32", 4, false);
const int = field("int", 4, true);
const uint = field("unsigned int", 4, false);
const bool = field("bool", 1, false);

/** kvm_arm_exception_type. */
export const EXCEPTION_TYPES: Symbols = [
  [0, "IRQ"],
  [1, "SERROR"],
  [2, "TRAP"],
  [3, "ILLEGAL"],
  [0xbadca11, "HYP_GONE"],
];
/** kvm_arm_exception_class: ESR_ELx_EC_*. */
export const EXCEPTION_CLASSES: Symbols = [
  [0x00, "UNKNOWN"],
  [0x01, "WFx"],
  [0x03, "CP15_32"],
  [0x04, "CP15_64"],
  [0x05, "CP14_MR"],
  [0x06, "CP14_LS"],
  [0x07, "FP_ASIMD"],
  [0x08, "CP10_ID"],
  [0x09, "PAC"],
  [0x0c, "CP14_64"],
  [0x15, "SVC64"],
  [0x16, "HVC64"],
  [0x17, "SMC64"],
  [0x18, "SYS64"],
  [0x19, "SVE"],
  [0x1f, "IMP_DEF"],
  [0x20, "IABT_LOW"],
  [0x21, "IABT_CUR"],
  [0x22, "PC_ALIGN"],
  [0x24, "DABT_LOW"],
  [0x25, "DABT_CUR"],
  [0x26, "SP_ALIGN"],
  [0x28, "FP_EXC32"],
  [0x2c, "FP_EXC64"],
  [0x2f, "SERROR"],
  [0x30, "BREAKPT_LOW"],
  [0x31, "BREAKPT_CUR"],
  [0x32, "SOFTSTP_LOW"],
  [0x33, "SOFTSTP_CUR"],
  [0x34, "WATCHPT_LOW"],
  [0x35, "WATCHPT_CUR"],
  [0x38, "BKPT32"],
  [0x3a, "VECTOR32"],
  [0x3c, "BRK64"],
  [0x1a, "ERET"],
];
const MMIO_TYPES: Symbols = [
  [0, "unsatisfied-read"],
  [1, "read"],
  [2, "write"],
];
/** kvm_trace_exit_reason. */
export const EXIT_REASONS: Symbols = [
  "UNKNOWN EXCEPTION IO HYPERCALL DEBUG HLT MMIO IRQ_WINDOW_OPEN SHUTDOWN FAIL_ENTRY INTR SET_TPR TPR_ACCESS",
  "S390_SIEIC S390_RESET DCR NMI INTERNAL_ERROR OSI PAPR_HCALL S390_UCONTROL WATCHDOG S390_TSCH EPR",
  "SYSTEM_EVENT S390_STSI IOAPIC_EOI HYPERV ARM_NISV X86_RDMSR X86_WRMSR",
]
  .flatMap((line) => line.split(" "))
  .map((name, value) => [value, `KVM_EXIT_${name}`] as const);
const REASON_NAMES = new Map(EXIT_REASONS);
const REASON_VALUES = new Map(EXIT_REASONS.map(([v, name]) => [name, v]));

const EINTR = 4;
/** kvm_userspace_exit: an error in place of the reason, which is then of an earlier exit. */
const exitReason: readonly Piece[] = [
  {
    format: "%s",
    c: `REC->errno < 0 ? (REC->errno == -${EINTR} ? "restart" : "error") : ${symbolic("reason", EXIT_REASONS)}`,
    fields: ["errno", "reason"],
    put: choice(
      (errno, reason) => (errno < 0 ? (errno === -EINTR ? "restart" : "error") : symbolText(REASON_NAMES, reason)),
      ["restart", "error", ...REASON_NAMES.values()],
    ),
    pattern: "(restart|error|[^ ()]+) \\(",
    take: (said) => (said === "restart" || said === "error" ? { errno: said } : { reason: String(REASON_VALUES.get(said) ?? said) }),
  },
  {
    format: " (%d)",
    c: "REC->errno < 0 ? -REC->errno : REC->reason",
    fields: ["errno", "reason"],
    put: (out, _hi, errno, reason) => out.text(` (${errno < 0 ? -errno : reason})`),
    pattern: "(-?[0-9]+)\\)",
    take: (said) => ({ number: said }),
  },
];

const FORMATS: Readonly<Record<string, KernelFormat>> = {
  kvm_entry: { fields: [ulong("vcpu_pc")], print: [lit("PC: 0x"), num("%016lx", "vcpu_pc")] },
  kvm_exit: {
    fields: [int("ret"), uint("esr_ec"), ulong("vcpu_pc")],
    print: [
      sym("ret", EXCEPTION_TYPES),
      lit(": HSR_EC: 0x"),
      num("%04x", "esr_ec"),
      lit(" ("),
      { ...sym("esr_ec", EXCEPTION_CLASSES), take: () => ({}) },
      lit("), PC: 0x"),
      num("%016lx", "vcpu_pc"),
    ],
  },
  kvm_guest_fault: {
    fields: [ulong("vcpu_pc"), ulong("hsr"), ulong("hxfar"), ull("ipa")],
    print: [
      lit("ipa "),
      num("%#llx", "ipa"),
      lit(", hsr "),
      num("%#08lx", "hsr"),
      lit(", hxfar "),
      num("%#08lx", "hxfar"),
      lit(", pc "),
      num("%#016lx", "vcpu_pc"),
    ],
  },
  kvm_access_fault: { fields: [ulong("ipa")], print: [lit("IPA: "), num("%lx", "ipa")] },
  kvm_irq_line: {
    fields: [uint("type"), int("vcpu_idx"), int("irq_num"), int("level")],
    print: [
      lit("Inject "),
      {
        format: "%s",
        c: '(REC->type == 0) ? "CPU" : (REC->type == 2) ? "VGIC PPI" : (REC->type == 1) ? "VGIC SPI" : "UNKNOWN"',
        fields: ["type"],
        put: choice((lo) => ["CPU", "VGIC SPI", "VGIC PPI"][lo] ?? "UNKNOWN", ["CPU", "VGIC SPI", "VGIC PPI", "UNKNOWN"]),
        pattern: "(CPU|VGIC PPI|VGIC SPI|UNKNOWN)",
        take: () => ({}),
      },
      lit(" interrupt ("),
      num("%d", "type"),
      lit("), vcpu->idx: "),
      num("%d", "vcpu_idx"),
      lit(", num: "),
      num("%d", "irq_num"),
      lit(", level: "),
      num("%d", "level"),
    ],
  },
  kvm_mmio_emulate: {
    fields: [ulong("vcpu_pc"), ulong("instr"), ulong("cpsr")],
    print: [
      lit("Emulate MMIO at: 0x"),
      num("%016lx", "vcpu_pc"),
      lit(" (instr: "),
      num("%08lx", "instr"),
      lit(", cpsr: "),
      num("%08lx", "cpsr"),
      lit(")"),
    ],
  },
  kvm_mmio_nisv: {
    fields: [ulong("vcpu_pc"), ulong("esr"), ulong("far"), ulong("ipa")],
    print: [
      lit("ipa "),
      num("%#016lx", "ipa"),
      lit(", esr "),
      num("%#016lx", "esr"),
      lit(", far "),
      num("%#016lx", "far"),
      lit(", pc "),
      num("%#016lx", "vcpu_pc"),
    ],
  },
  kvm_mmio: {
    fields: [u32("type"), u32("len"), u64("gpa"), u64("val")],
    print: [
      lit("mmio "),
      sym("type", MMIO_TYPES),
      lit(" len "),
      num("%u", "len"),
      lit(" gpa 0x"),
      num("%llx", "gpa"),
      lit(" val 0x"),
      num("%llx", "val"),
    ],
  },
  kvm_userspace_exit: { fields: [field("__u32", 4, false)("reason"), int("errno")], print: [lit("reason "), ...exitReason] },
  kvm_unmap_hva_range: {
    fields: [ulong("start"), ulong("end")],
    print: [lit("mmu notifier unmap range: "), num("%#016lx", "start"), lit(" -- "), num("%#016lx", "end")],
  },
  kvm_unmap_hva: { fields: [ulong("hva")], print: [lit("mmu notifier unmap hva: "), num("%#08lx", "hva")] },
  kvm_set_spte_hva: { fields: [ulong("hva")], print: [lit("mmu notifier set pte hva: "), num("%#016lx", "hva")] },
  kvm_age_hva: {
    fields: [ulong("start"), ulong("end")],
    print: [lit("mmu notifier age hva: "), num("%#016lx", "start"), lit(" -- "), num("%#016lx", "end")],
  },
  kvm_test_age_hva: { fields: [ulong("hva")], print: [lit("mmu notifier test age hva: "), num("%#016lx", "hva")] },
  kvm_set_way_flush: {
    fields: [ulong("vcpu_pc"), bool("cache")],
    print: [lit("S/W flush at 0x"), num("%016lx", "vcpu_pc"), lit(" (cache "), either("cache", "on", "off"), lit(")")],
  },
  kvm_toggle_cache: {
    fields: [ulong("vcpu_pc"), bool("was"), bool("now")],
    print: [
      lit("VM op at 0x"),
      num("%016lx", "vcpu_pc"),
      lit(" (cache was "),
      either("was", "on", "off"),
      lit(", now "),
      either("now", "on", "off"),
      lit(")"),
    ],
  },
  kvm_wfx_arm64: {
    fields: [ulong("vcpu_pc"), bool("is_wfe")],
    print: [lit("guest executed wf"), either("is_wfe", "e", "i", "%c"), lit(" at: 0x"), num("%016lx", "vcpu_pc")],
  },
  kvm_hvc_arm64: {
    fields: [ulong("vcpu_pc"), ulong("r0"), ulong("imm")],
    print: [
      lit("HVC at 0x"),
      num("%016lx", "vcpu_pc"),
      lit(" (r0: 0x"),
      num("%016lx", "r0"),
      lit(", imm: 0x"),
      num("%lx", "imm"),
      lit(")"),
    ],
  },
  kvm_dirty_ring_push: {
    fields: [int("index"), u32("dirty_index"), u32("reset_index"), u32("slot"), u64("offset")],
    print: [
      lit("ring "),
      num("%d", "index"),
      lit(": dirty 0x"),
      num("%x", "dirty_index"),
      lit(" reset 0x"),
      num("%x", "reset_index"),
      lit(" slot "),
      num("%u", "slot"),
      lit(" offset 0x"),
      num("%llx", "offset"),
      lit(" (used "),
      difference("dirty_index", "reset_index"),
      lit(")"),
    ],
  },
  kvm_dirty_ring_reset: {
    fields: [int("index"), u32("dirty_index"), u32("reset_index")],
    print: [
      lit("ring "),
      num("%d", "index"),
      lit(": dirty 0x"),
      num("%x", "dirty_index"),
      lit(" reset 0x"),
      num("%x", "reset_index"),
      lit(" (used "),
      difference("dirty_index", "reset_index"),
      lit(")"),
    ],
  },
  kvm_dirty_ring_exit: { fields: [int("vcpu_id", "vcpu")], print: [lit("vcpu "), { ...num("%d", "vcpu"), c: "REC->vcpu_id" }] },
};

export function kernelFormat(event: string): KernelFormat | undefined {
  return Object.hasOwn(FORMATS, event) ? FORMATS[event] : undefined;
}
export const kernelFormats = (): readonly string[] => Object.keys(FORMATS);

const readers = new Map<string, (text: string) => Record<string, string> | undefined>();

/** Reads the text of one of the kernel's events. @returns fields, undefined if the text has another form */
export function readKernelText(event: string, text: string): Record<string, string> | undefined {
  const format = kernelFormat(event);
  if (format === undefined) return undefined;
  let reader = readers.get(event);
  if (reader === undefined) readers.set(event, (reader = printReader(format.print)));
  const fields = reader(text);
  if (event !== "kvm_userspace_exit" || fields === undefined) return fields;
  const { reason, errno, number } = fields;
  return errno === undefined ? { reason: reason!, errno: "0" } : { errno: `-${number!}` };
}
