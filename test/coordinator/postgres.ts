import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { chownSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";

/** Debian's PostgreSQL, in a folder of its own, on a Unix socket alone; ended, and gone, with `close`. */
export type TestPostgres = {
  /** The folder of its socket. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** Makes an empty database and returns its name. */
  database(): Promise<string>;
  /** One statement in one of its databases. */
  run(database: string, statement: string): Promise<unknown[]>;
  /** Ends every connection to a database, as a restart of the server would; fulfilled when what was under way is over. */
  disconnect(database: string): Promise<void>;
  close(): Promise<void>;
};

const BIN = "/usr/lib/postgresql/15/bin";
const PORT = 5_432;
/** For a connection to end, on a machine that has more to do. */
const END_MS = 60_000;

export async function startPostgres(): Promise<TestPostgres> {
  const [uid, gid] = ["-u", "-g"].map((flag) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" })));
  if (uid === undefined || gid === undefined) throw new Error("there is no user postgres");
  const folder = mkdtempSync(join(tmpdir(), "exn-pg-"));
  chownSync(folder, uid, gid);
  const data = join(folder, "data");
  const as = { uid, gid, cwd: folder, env: { PATH: process.env.PATH ?? "", LC_ALL: "C.UTF-8" } };
  execFileSync(`${BIN}/initdb`, ["-D", data, "--auth=trust", "--no-sync", "-E", "UTF8"], { ...as, stdio: "pipe" });
  // The coordinators are killed here and never the database: it need not wait for the disk.
  const settings = ["listen_addresses=", `unix_socket_directories=${folder}`, "fsync=off", "max_connections=60"];
  const program = [`${BIN}/postgres`, "-D", data, "-p", `${PORT}`, ...settings.flatMap((one) => ["-c", one])];
  // A test that is killed takes the server along.
  const server = spawn("setpriv", ["--pdeathsig", "QUIT", ...program], { ...as, stdio: ["ignore", "ignore", "pipe"] });
  const kill = (): void => void server.kill("SIGKILL");
  process.once("exit", kill);
  await ready(server);
  let databases = 0;
  const run = async (database: string, statement: string): Promise<unknown[]> => {
    const client = new pg.Client({ host: folder, port: PORT, user: "postgres", database });
    await client.connect();
    try {
      return (await client.query(statement)).rows;
    } finally {
      await client.end();
    }
  };
  return {
    host: folder,
    port: PORT,
    user: "postgres",
    async database() {
      const name = `network${++databases}`;
      await run("postgres", `create database ${name}`);
      return name;
    },
    run,
    async disconnect(database) {
      const ended = `select pg_terminate_backend(pid, ${END_MS}) from pg_stat_activity where datname = '${database}'`;
      await run("postgres", ended);
    },
    async close() {
      const ended = new Promise((resolve) => server.once("exit", resolve));
      server.kill("SIGINT"); // fast shutdown: it does not wait for clients
      await ended;
      process.off("exit", kill);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function ready(server: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = "";
    server.stderr?.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-4_096);
      if (said.includes("ready to accept connections")) resolve();
    });
    server.once("exit", (code) => reject(new Error(`postgres exited ${code}: ${said}`)));
  });
}
