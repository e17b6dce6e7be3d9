import { proxmoxApi } from "proxmox-api";
import type { Engine } from "./engine.js";
import type { PveAccess } from "./guests.js";
import * as replies from "./replies.js";

/** Users, roles, tokens and ACLs over the engine. */
export function accessCalls(engine: Engine): PveAccess {
  const api = proxmoxApi(engine);
  return {
    roles: async () => replies.rolesReply(await api.access.roles.$get()),
    async setRole(role, privs, exists) {
      const list = privs.join(" ");
      if (exists) await engine.call("PUT", ["access", "roles", role], { privs: list });
      else await engine.call("POST", ["access", "roles"], { roleid: role, privs: list });
    },
    users: async () => replies.usersReply(await api.access.users.$get()),
    async createUser(userid, comment) {
      await engine.call("POST", ["access", "users"], { userid, comment });
    },
    tokens: async (user) => replies.tokensReply(await api.access.users.$(user).token.$get()),
    createToken: async (user, id, comment) =>
      replies.tokenMadeReply(
        await engine.call("POST", ["access", "users", user, "token", id], { privsep: true, comment, expire: 0 }),
      ),
    async deleteToken(user, id) {
      await engine.call("DELETE", ["access", "users", user, "token", id]);
    },
    async createPool(poolid, comment) {
      await engine.call("POST", ["pools"], { poolid, comment });
    },
    acls: async () => replies.aclsReply(await api.access.acl.$get()),
    async setAcl({ path, role, kind, holder, propagate }) {
      await engine.call("PUT", ["access", "acl"], { path, roles: role, [`${kind}s`]: holder, propagate });
    },
  };
}
