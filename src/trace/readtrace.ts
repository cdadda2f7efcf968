/** A trace of any readable format: what it is shows at its beginning, not in its name. */
import { TraceError, type ReadTrace } from "./meaning.js";
import { readChrome, readFtrace, readJsonLines } from "./readtext.js";
import { isTraceDat, readTraceDat } from "./readtracedat.js";

/** @throws TraceError if the bytes are no trace, or break off */
export function readTraceBytes(bytes: Uint8Array): ReadTrace {
  if (bytes.length === 0) throw new TraceError("the file is empty");
  if (isTraceDat(bytes)) return readTraceDat(bytes);
  if (bytes.subarray(0, 4096).includes(0)) throw new TraceError("a binary format that is no trace.dat");
  // The decoder drops a byte order mark.
  const text = new TextDecoder().decode(bytes);
  const start = text.slice(0, 4096).trimStart();
  if (/^\{"(trace|variant|seq|result)":/.test(start)) return readJsonLines(text);
  if (start.startsWith("{") || start.startsWith("[{")) return readChrome(text);
  return readFtrace(text);
}
