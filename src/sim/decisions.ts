/**
 * Kernel eras as data. A decision is one place where releases of the kernel differ; it is declared
 * in the room that asks it, with its whole history: release -> value and the source of that change.
 * The row of a release is derived: the nearest entry on the chain release -> its base -> …
 * Code asks a decision by name and never compares versions.
 */

/** Where a value comes from: commit, or file and function with the release that was read. */
export type Source = string;

export interface Decision<T extends string | number | boolean = string | number | boolean> {
  readonly doc: string;
  /** The legal values, the type of `--set`. */
  readonly values: readonly T[];
  /** Release -> [value, source]: only where it changes. Without an entry on the chain: unknown. */
  readonly history: Readonly<Record<string, readonly [T, Source]>>;
}

/** Declares one decision; the value type is the union of `values`. */
export function decision<const T extends string | number | boolean>(
  doc: string,
  values: readonly T[],
  history: Readonly<Record<string, readonly [NoInfer<T>, Source]>>,
): Decision<T> {
  return Object.freeze({ doc, values, history });
}

export type DecisionSet = Readonly<Record<string, Decision>>;
/** The row that a room asks: decision name -> value. */
export type Row<S extends DecisionSet> = { readonly [K in keyof S]: S[K] extends Decision<infer T> ? T : never };
