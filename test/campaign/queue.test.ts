import { join } from "node:path";
import { beforeAll, expect, test, vi } from "vitest";
import { redisPlace } from "../../src/campaign/redis.js";
import { AT_TERMINAL, CLI, faultline, said, temporaryFolder } from "../cli/command.js";
import { wrong } from "../cli/jsonschema.js";
import { freePort, killWhenDone, redisServer, start } from "./redisserver.js";

vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });
killWhenDone();
let port = 0;

const PASSWORD = "open-sesame";
const url = (password = PASSWORD): string => `redis://:${password}@127.0.0.1:${port}/2`;
const worker = (words: readonly string[] = [], node: readonly string[] = []): ReturnType<typeof start> =>
  start(process.execPath, [...node, CLI, "worker", "--queue", url(), "--lost-after", "2s", ...words]);

/** The time that it took is no part of a report. */
const unclocked = (out: string): string => out.replace(/"seconds": [\d.e-]+/, "");

beforeAll(async () => {
  port = await freePort();
  await redisServer(["--port", String(port), "--requirepass", PASSWORD]);
});

test("three workers, one of them killed in the middle, give the report of a local run byte for byte, each unit once", async () => {
  const args = ["fuzz", "--kernel", "v5.5,v7.2.12", "--runs", "800", "--json"];
  const cwd = temporaryFolder();
  const workers = [worker(["--json"]), worker([], AT_TERMINAL), worker()];
  let told = "";
  workers[0]!.stdout!.on("data", (d: Buffer) => (told += d.toString()));
  const submitted = faultline([...args, "--corpus", "c", "--queue", url()], { cwd });
  // One of them dies with a unit in its hands: it says that it has done one just before it tells its result.
  await said(workers[1]!.stderr!, "units done");
  workers[1]!.kill("SIGKILL");
  const [far, local] = [await submitted, await faultline([...args, "--corpus", "d"], { cwd })];
  expect({ ...far, out: far.out.replaceAll("c/failures", "d/failures") }).toEqual(local);
  expect((JSON.parse(far.out) as { programs: number }).programs).toBe(800);
  const stopped = new Promise<number | null>((resolve) => workers[0]!.on("close", resolve));
  workers[0]!.kill("SIGINT");
  expect(await stopped).toBe(130);
  expect(wrong("worker", JSON.parse(told))).toBe("");
});

test("explore, measure, litmus and conform give over the queue what they give here, and the same error for a budget that is used up", async () => {
  worker();
  worker();
  const recording = join(import.meta.dirname, "../../recordings/v5.5/cortex-a76/a_demand_fault.rec");
  const commands: [status: number, ...args: string[]][] = [
    [1, "explore", "2020-concurrent-vfio-faults", "--json", "--cut-after", "100"],
    [0, "measure", "2019-framebuffer-walk", "--policies", "eager,demand", "--kernels", "v5.4,v5.5", "--json"],
    [0, "litmus", "--test", "C2", "--test", "A12", "--outcomes"],
    [0, "conform", recording, "--json"],
    [3, "measure", "2019-framebuffer-walk", "--policies", "demand", "--max-steps", "10"],
  ];
  const cwd = temporaryFolder();
  for (const [status, ...args] of commands) {
    const [far, near] = [await faultline([...args, "--queue", url()], { cwd }), await faultline(args, { cwd })];
    expect({ args, ...far, out: unclocked(far.out) }).toEqual({ args, ...near, out: unclocked(near.out) });
    expect({ args, status: far.status }).toEqual({ args, status });
  }
});

test("a wrong password, an address where nobody answers and a URL of something else are said in one line", async () => {
  const said = async (queue: string) => {
    const r = await faultline(["worker", "--queue", queue]);
    return `${r.status} ${r.err.trim()}`;
  };
  expect(await said(url("wrong"))).toMatch(/^2 error: redis:\/\/:\*\*\*@127.0.0.1:\d+\/2 cannot be used: WRONGPASS/);
  expect(await said(`redis://127.0.0.1:${await freePort()}/`)).toMatch(
    /^2 error: redis:\/\/127.0.0.1:\d+\/ cannot be used: .*ECONNREFUSED/,
  );
  expect(await said("http://127.0.0.1/")).toContain("2 error: --queue takes redis://");
});

test("TLS options are taken from the URL and only there where there is TLS", () => {
  const { url: plain, tls } = redisPlace("rediss://fuzz:secret@queue.example:6380/1?servername=other&rejectUnauthorized=0&ca=LICENSE");
  expect(plain).toBe("rediss://fuzz:secret@queue.example:6380/1");
  expect({ ...tls, ca: (tls!["ca"] as string).slice(0, 60).trim().split(/\s+/)[0] }).toEqual({
    servername: "other",
    rejectUnauthorized: false,
    ca: "Apache",
  });
  expect(redisPlace("redis://localhost").tls).toBeUndefined();
  expect(() => redisPlace("redis://localhost/?ca=x")).toThrow('"ca" is an option of TLS');
  expect(() => redisPlace("rediss://localhost/?cart=x")).toThrow('no option "cart"');
});
