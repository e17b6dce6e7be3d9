import type { Files } from "./files.js";

export type User = { readonly uid: number; readonly gid: number };

/** A local user of the machine; undefined when there is none of that name. */
export async function findUser(files: Files, name: string): Promise<User | undefined> {
  const passwd = (await files.readText("/etc/passwd")) ?? "";
  const fields = passwd
    .split("\n")
    .map((line) => line.split(":"))
    .find(([user]) => user === name);
  const uid = Number(fields?.[2]);
  const gid = Number(fields?.[3]);
  return fields === undefined || !Number.isInteger(uid) || !Number.isInteger(gid) ? undefined : { uid, gid };
}
