/**
 * Which events the recorder could see on which kernel ("Properties of the recording itself" in
 * recordings/README.md): a probe that a kernel did not offer leaves no line, though the function ran.
 */
import { ERAS, findEra } from "../eras.js";

/** Event -> first era whose recordings list it; events without a row are listed everywhere. */
const LISTED_SINCE: Readonly<Record<string, string>> = {
  vfio_mmap: "v6.1.192",
  vfio_zap: "v5.10",
  vfio_fault: "v6.12.117",
  vfio_huge_fault: "v6.12.117",
};

const rank = (era: string): number => ERAS.indexOf(findEra(era)!);

/** The eras whose dump of stage 2 found no leaves, whatever was mapped. */
const DUMPS_NO_LEAVES: readonly string[] = ["v6.8"];

/** True if `s2dump` of this era's recordings reports no leaves. */
export const dumpsNoLeaves = (era: string): boolean => DUMPS_NO_LEAVES.includes(era);

/** The events that recordings of this era do not list. */
export function unlistedEvents(era: string): ReadonlySet<string> {
  return new Set(Object.keys(LISTED_SINCE).filter((event) => rank(era) < rank(LISTED_SINCE[event]!)));
}
