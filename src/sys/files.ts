import { randomBytes } from "node:crypto";
import * as fs from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** The file system as the program uses it. Absent files are `undefined`, everything else that fails is thrown. */
export interface Files {
  read(path: string): Promise<Uint8Array | undefined>;
  readText(path: string): Promise<string | undefined>;
  /** Writes beside the file and renames: a reader sees the old content or the new. Makes the folders it needs. */
  write(path: string, content: string | Uint8Array, options?: { mode?: number }): Promise<void>;
  remove(path: string): Promise<void>;
  list(path: string): Promise<string[]>;
}

export const localFiles: Files = {
  async read(path) {
    return orAbsent(fs.readFile(path).then((bytes) => new Uint8Array(bytes)));
  },
  async readText(path) {
    return orAbsent(fs.readFile(path, "utf8"));
  },
  async write(path, content, options = {}) {
    await fs.mkdir(dirname(path), { recursive: true });
    const beside = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}`);
    const mode = options.mode ?? 0o644;
    try {
      const file = await fs.open(beside, "wx", mode);
      try {
        await file.chmod(mode);
        await file.writeFile(content);
        await file.sync();
      } finally {
        await file.close();
      }
      await fs.rename(beside, path);
    } catch (error) {
      await fs.rm(beside, { force: true });
      throw error;
    }
  },
  async remove(path) {
    await fs.rm(path, { recursive: true, force: true });
  },
  async list(path) {
    return (await orAbsent(fs.readdir(path))) ?? [];
  },
};

async function orAbsent<T>(reading: Promise<T>): Promise<T | undefined> {
  return reading.catch((error: unknown) => {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR"))
      return undefined;
    throw error;
  });
}
