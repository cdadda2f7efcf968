/** `faultline new FILE`: a commented script of ten lines that runs. Never overwrites, never leaves half a file. */
import { existsSync, linkSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { OK, UsageError } from "./status.js";
import { print } from "./terminal.js";
import { unwritable } from "./writefile.js";

export const TEMPLATE = `title "A guest stores to memory that the host has not allocated yet"  // shown by every command
variant v5.4                      // the kernels to run it under; --kernel runs it under another
variant v6.12
let RAM = 0x80000000              // where the guest sees its memory
let ram = mmap(0, 4M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)  // the VMM maps memory,
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=4M, userspace_addr=ram)  // and gives it to the guest
guest { mov x1, 0x1234; str x1, [RAM]; ldr x0, [RAM] }   // real A64 code; the store faults at stage 2
expect fault ipa=RAM              // KVM saw one fault there …
expect x0 == 0x1234               // … and the guest reads back what it wrote
expect stage2 RAM perms=rw        // change a line and run it again: faultline run FILE
`;

export async function newCommand(file: string, asJson: boolean): Promise<number> {
  if (file === "-") throw new UsageError("new takes the name of a file, not standard output");
  const path = resolve(file);
  if (existsSync(path)) throw new UsageError(`${file} exists already; faultline new never overwrites`, { file });
  if (!existsSync(dirname(path))) throw new UsageError(`${file} cannot be written: there is no folder ${dirname(path)}`, { file });
  let dir: string;
  try {
    dir = mkdtempSync(join(dirname(path), ".faultline-"));
  } catch (e) {
    throw new UsageError(unwritable(file, e), { file });
  }
  try {
    const temporary = join(dir, "new");
    writeFileSync(temporary, TEMPLATE);
    // A link fails if the name was taken in the meantime; a rename would replace it.
    linkSync(temporary, path);
  } catch (e) {
    throw new UsageError(unwritable(file, e), { file });
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  if (asJson) await print(JSON.stringify({ file, script: TEMPLATE }, undefined, 2));
  else await print(`${file} is written. Run it: faultline run ${file}`);
  return OK;
}
