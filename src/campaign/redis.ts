/**
 * The connection that a queue's URL means: redis:// or, with TLS, rediss://; user and password in it, the database as its path,
 * and of TLS what cannot be left to the system: ?ca=FILE&cert=FILE&key=FILE&servername=NAME&rejectUnauthorized=0.
 */
import { readFileSync } from "node:fs";
import type { Redis } from "ioredis";
import { FaultlineError } from "../sim/errors.js";

const FILES = ["ca", "cert", "key"] as const;
/** Milliseconds between attempts to come back, at most. */
const MOST_DELAY = 5000;

export interface RedisPlace {
  /** Without the query: what ioredis takes. */
  readonly url: string;
  readonly tls: Readonly<Record<string, string | boolean>> | undefined;
  /** As messages name it: without the password. */
  readonly shown: string;
}

/** @throws FaultlineError */
export function redisPlace(text: string): RedisPlace {
  const wrong = (why: string): never => {
    throw new FaultlineError(`--queue takes redis://[user:password@]host[:port][/database] or rediss://…: ${why}`);
  };
  if (!URL.canParse(text)) return wrong(`"${text}" is no URL`);
  const url = new URL(text);
  if (url.protocol !== "redis:" && url.protocol !== "rediss:") return wrong(`not ${url.protocol}//`);
  if (url.hostname === "") return wrong("there is no host in it");
  if (!/^(\/[0-9]*)?$/.test(url.pathname)) return wrong(`the database is a number, not "${url.pathname.slice(1)}"`);
  const tls: Record<string, string | boolean> = {};
  for (const [key, value] of url.searchParams) {
    if (url.protocol === "redis:") return wrong(`"${key}" is an option of TLS: rediss://`);
    if ((FILES as readonly string[]).includes(key)) tls[key] = certificate(value);
    else if (key === "servername") tls[key] = value;
    else if (key === "rejectUnauthorized") tls[key] = value !== "0" && value !== "false";
    else return wrong(`no option "${key}"; there are ${FILES.join(", ")}, servername and rejectUnauthorized`);
  }
  url.search = "";
  const plain = url.href;
  if (url.password !== "") url.password = "***";
  return { url: plain, tls: url.protocol === "rediss:" ? tls : undefined, shown: url.href };
}

function certificate(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (e) {
    throw new FaultlineError(`--queue: ${(e as Error).message}`);
  }
}

/** Connects; the client is loaded here and nowhere else. @throws FaultlineError if nobody answers */
export async function connect(place: RedisPlace): Promise<Redis> {
  const { Redis } = await import("ioredis");
  let last: Error | undefined;
  const client = new Redis(place.url, {
    lazyConnect: true,
    // BullMQ waits for a connection that is lost, however long.
    maxRetriesPerRequest: null,
    retryStrategy: (times) => Math.min(200 * times, MOST_DELAY),
    ...(place.tls === undefined ? {} : { tls: place.tls }),
  });
  client.on("error", (e: Error) => (last = e));
  try {
    await client.connect();
    await client.ping();
  } catch (e) {
    client.disconnect();
    throw new FaultlineError(`${place.shown} cannot be used: ${(last ?? (e as Error)).message}`);
  }
  return client;
}
