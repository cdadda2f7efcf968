/**
 * Units on any number of machines: BullMQ over Redis. The submitter adds a job for each unit and takes its result; workers
 * (queueworker.ts) take jobs, whoever is free. A job whose worker fell silent is given to another; one that failed is tried
 * again, later and later. A unit's result is the same whoever does it, and is taken once: by the number of its unit.
 */
import { randomUUID } from "node:crypto";
import { connect, redisPlace } from "./redis.js";
import type { Executor } from "./work.js";
import { VERSION } from "./version.js";

/** The queue's name in Redis. */
export const QUEUE = "faultline";
/** A job whose unit throws is tried so often, on whichever machine. */
const ATTEMPTS = 4;
const BACK_OFF = { type: "exponential", delay: 500 } as const;
/** Seconds that a result nobody fetched is kept. */
const KEPT = 24 * 3600;
/** Jobs in the queue at once. */
const DEPTH = 10_000;

export interface UnitJob {
  readonly version: string;
  readonly kind: string;
  readonly spec: unknown;
  readonly input: unknown;
}

export async function queueExecutor(url: string, kind: string, spec: unknown): Promise<Executor> {
  const connection = await connect(redisPlace(url));
  const { Queue, QueueEvents } = await import("bullmq");
  const queue = new Queue<UnitJob, string>(QUEUE, { connection });
  const events = new QueueEvents(QUEUE, { connection });
  await events.waitUntilReady();
  // What BullMQ cannot do now it does when the connection is back.
  queue.on("error", () => undefined);
  events.on("error", () => undefined);
  const campaign = randomUUID();
  const open = new Set<number>();
  const jobId = (unit: number): string => `${campaign}-${unit}`;
  return {
    capacity: DEPTH,
    run: async (unit, input) => {
      open.add(unit);
      const job = await queue.add(
        kind,
        { version: VERSION, kind, spec, input },
        { jobId: jobId(unit), attempts: ATTEMPTS, backoff: BACK_OFF, removeOnComplete: { age: KEPT }, removeOnFail: { age: KEPT } },
      );
      const result = await job.waitUntilFinished(events);
      open.delete(unit);
      await job.remove();
      return result;
    },
    close: async () => {
      // What nobody has begun, nobody need begin.
      await Promise.allSettled([...open].map((unit) => queue.remove(jobId(unit))));
      await Promise.allSettled([queue.close(), events.close()]);
      connection.disconnect();
    },
  };
}
