/**
 * Where a script's own guest code lies: slot 31, 2 MiB at IPA 0x40000000. An imported memslot there leaves that
 * place free: it becomes the parts below and above it.
 */
const CODE_SLOT = 31;
const CODE_AT = 0x40000000;
const CODE_SIZE = 0x200000;
/** Ids that no VMM gives its first slots. */
const OTHER_IDS = 200;

export interface Slot {
  readonly id: number;
  readonly gpa: number;
  readonly size: number;
  readonly hva: number;
}

export interface Parts {
  readonly parts: readonly Slot[];
  /** What the import changed, "" for nothing. */
  readonly remark: string;
}

export function aroundCode(slot: Slot): Parts {
  const id = slot.id === CODE_SLOT ? slot.id + OTHER_IDS : slot.id;
  const renamed = id === slot.id ? "" : `slot ${slot.id} is ${id} here: ${slot.id} holds the script's code`;
  const end = slot.gpa + slot.size;
  const codeEnd = CODE_AT + CODE_SIZE;
  if (slot.size === 0 || slot.gpa >= codeEnd || end <= CODE_AT) return { parts: [{ ...slot, id }], remark: renamed };
  const below = { id: id + OTHER_IDS, gpa: slot.gpa, size: CODE_AT - slot.gpa, hva: slot.hva };
  const above = { id, gpa: codeEnd, size: end - codeEnd, hva: slot.hva + (codeEnd - slot.gpa) };
  const remark = `without 0x40000000 to 0x401fffff, where the script's own code lies${renamed === "" ? "" : `; ${renamed}`}`;
  return { parts: [below, above].filter((p) => p.size > 0), remark };
}
