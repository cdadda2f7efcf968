/** Wrong input from a person: an option, a name, a device, a file. What the modelled system answers is never an error of this kind. */

/** Its message says what is wrong and what was expected. */
export class FaultlineError extends Error {
  override name = "FaultlineError";
}
