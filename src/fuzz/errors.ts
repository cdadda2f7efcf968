/** An unexpected exception as one line, without what differs from machine to machine. */
export function errorText(e: unknown): string {
  if (!(e instanceof Error)) return String(e);
  const where = /at (?:Object\.|new )?([\w.]+) /.exec(e.stack?.split("\n").find((l) => l.trimStart().startsWith("at ")) ?? "");
  return `${e.name}: ${e.message.split("\n")[0]!}${where === null ? "" : ` in ${where[1]!}`}`;
}
