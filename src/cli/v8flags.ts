/**
 * How V8 compiles. Flags are the process's own: the command and the benchmarks set them, the library does not.
 */
import { setFlagsFromString } from "node:v8";

/**
 * TurboFan puts no function of more than 460 bytes of bytecode into its caller, stops after 920 bytes together, and after 4600 also with
 * those of less than 27. The path of a fault is many small functions, each a step of the kernel's: with 12000 and 20000 together a 4 KiB fault takes
 * half of the time, an MMIO exit two fifths; with 1200 and 60 for one function it is a tenth fewer instructions again, that of a BAR page a seventh.
 * Runs of half a second pay 5 % for the longer compilation; below 6000 together, or 900 for one, small changes of the code decide
 * what is left out. Above 2000 for one the guest's loop becomes part of what calls it, which is slower.
 */
export function inlineMore(): void {
  setFlagsFromString("--max-inlined-bytecode-size=1200");
  setFlagsFromString("--max-inlined-bytecode-size-small=60");
  setFlagsFromString("--max-inlined-bytecode-size-cumulative=12000");
  setFlagsFromString("--max-inlined-bytecode-size-absolute=20000");
}

/**
 * A function is handed to TurboFan when some 66 KiB of its bytecode have run, which in a command of a second's length is just
 * before its end: the compiler takes a core from the run and the run gains nothing. Seven times as much
 * makes runs of 0.2 to 1 s a fifth shorter, long ones neither shorter nor longer.
 */
export function compileLater(): void {
  setFlagsFromString("--interrupt-budget=500000");
}
