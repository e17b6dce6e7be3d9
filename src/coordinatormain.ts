import { join } from "node:path";
import { text } from "node:stream/consumers";
import { coordinatorPlaces, openCoordinator } from "./cli/coordinatordaemon.js";
import { problemFailure } from "./cli/problem.js";
import { asFailure } from "./kit/failure.js";
import { version } from "./version.js";
import { COORDINATOR_FILES } from "./wire/coordinatorconfig.js";

/**
 * The coordinator's own program, one file without node_modules:
 *
 *   coordinator.js                     the daemon, under systemd or by hand
 *   coordinator.js backup              a backup of the store and the keys on stdout, as text; the daemon may run
 *   coordinator.js restore             the backup on stdin takes the store's place; the daemon must not run
 *   coordinator.js call METHOD PATH    one request to the running daemon's admin socket; the body, if the method has
 *                                      one, is JSON on stdin; the answer is JSON on stdout, exit 1 with {"error": …}
 */

const CALL_TIMEOUT_MS = 30_000;

async function main(argv: readonly string[]): Promise<number> {
  if (argv[0] === undefined) return serve();
  if (argv[0] === "--version") {
    process.stdout.write(`${version}\n`);
    return 0;
  }
  const [word, method, path] = argv;
  if (word === "call" && method !== undefined && path?.startsWith("/")) return call(method.toUpperCase(), path);
  if (word === "backup" || word === "restore") return keep(word);
  process.stderr.write("usage: coordinator.js [backup | restore | call METHOD /PATH]\n");
  return 2;
}

async function serve(): Promise<number> {
  const { jsonLog } = await import("./sys/log.js");
  const { runService } = await import("./cli/servicerun.js");
  const log = jsonLog("coordinator", process.env.EXITNODE_LOG ?? "info");
  return runService(log, async () => {
    const coordinator = await openCoordinator(coordinatorPlaces(process.env), version, log);
    const { settleHeap } = await import("./sys/heap.js");
    settleHeap();
    return coordinator;
  });
}

async function call(method: string, path: string): Promise<number> {
  try {
    const { requestUnix } = await import("./sys/unixhttp.js");
    // Without a body stdin is left alone: over SSH it may stay open for ever.
    const hasBody = method === "POST" || method === "PUT" || method === "PATCH";
    const body = hasBody ? await text(process.stdin) : "";
    const answer = await requestUnix({
      socket: join(coordinatorPlaces(process.env).run, COORDINATOR_FILES.adminSocket),
      method,
      path,
      ...(body.trim() === "" ? {} : { body }),
      timeoutMs: CALL_TIMEOUT_MS,
    });
    if (answer.status < 400) return print(answer.body === "" ? "{}" : answer.body, 0);
    throw problemFailure(answer.status, answer.body);
  } catch (error) {
    return print(JSON.stringify({ error: asFailure(error) }), 1);
  }
}

async function keep(word: "backup" | "restore"): Promise<number> {
  try {
    const { packBackup, putBackup, takeBackup, unpackBackup } = await import("./cli/backupstore.js");
    const places = coordinatorPlaces(process.env);
    if (word === "restore")
      return print(JSON.stringify(await putBackup(places, unpackBackup(await text(process.stdin)), Date.now())), 0);
    const { bytes, ...facts } = await takeBackup(places, Date.now());
    return print(JSON.stringify({ ...facts, backup: packBackup(bytes) }), 0);
  } catch (error) {
    return print(JSON.stringify({ error: asFailure(error) }), 1);
  }
}

function print(line: string, exitCode: number): Promise<number> {
  return new Promise((resolve) => process.stdout.write(`${line.trimEnd()}\n`, () => resolve(exitCode)));
}

process.exit(await main(process.argv.slice(2)));
