import { execFileSync } from "node:child_process";
import { beforeAll, expect, test, vi } from "vitest";
import { CLI, faultline, temporaryFolder } from "../cli/command.js";
import { freePort, killWhenDone, redisServer, start } from "./redisserver.js";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });
killWhenDone();

const cwd = temporaryFolder();
let port = 0;
const CA = "ca=ca.pem";
const CLIENT = "cert=ca.pem&key=key.pem";
const NAME = "servername=queue.example";
const url = (options: readonly string[], user = "fuzz:secret"): string => `rediss://${user}@127.0.0.1:${port}/?${options.join("&")}`;

/** A Redis that speaks TLS alone, with a certificate of its own for a name that is not its address, and asks its clients for theirs and their name. */
beforeAll(async () => {
  const named = ["-subj", "/CN=queue.example", "-addext", "subjectAltName=DNS:queue.example"];
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem"];
  execFileSync("openssl", ["req", "-x509", ...key, "-out", "ca.pem", "-days", "2", ...named], { cwd, stdio: "ignore" });
  port = await freePort();
  const tls = ["--port", "0", "--tls-port", String(port), "--tls-cert-file", "ca.pem", "--tls-key-file", "key.pem"];
  const users = ["--user", "default", "off", "--user", "fuzz", "on", ">secret", "~*", "&*", "+@all"];
  await redisServer([...tls, "--tls-ca-cert-file", "ca.pem", "--tls-auth-clients", "yes", ...users], cwd);
});

test("a queue behind TLS, with certificates on both sides and a named user, gives the report of a local run", async () => {
  const place = url([CA, CLIENT, NAME]);
  start(process.execPath, [CLI, "worker", "--queue", place], cwd);
  const args = ["fuzz", "--kernel", "v5.5", "--runs", "100", "--json"];
  const [far, near] = [
    await faultline([...args, "--corpus", "far", "--queue", place], { cwd }),
    await faultline([...args, "--corpus", "near"], { cwd }),
  ];
  expect({ ...far, out: far.out.replaceAll("far/failures", "near/failures") }).toEqual(near);
  expect(near.status).toBe(0);
});

test("what TLS or the user's name does not let in is said in one line, without the password", async () => {
  const said = async (place: string) => {
    const r = await faultline(["worker", "--queue", place], { cwd });
    return `${r.status} ${r.err.trim().replaceAll(`:${port}`, ":PORT")}`;
  };
  const refused = "2 error: rediss://fuzz:***@127.0.0.1:PORT/ cannot be used: ";
  expect(await said(url([CLIENT, NAME]))).toBe(`${refused}self-signed certificate`);
  expect(await said(url([CA, CLIENT]))).toContain(`${refused}Hostname/IP does not match certificate's altnames`);
  expect(await said(url([CA, NAME]))).toContain(refused);
  expect(await said(url([CA, CLIENT, NAME], "fuzz:wrong"))).toBe(`${refused}WRONGPASS invalid username-password pair or user is disabled.`);
});
