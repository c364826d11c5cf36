// The states that the server keeps for this conversation: which of them still live, renewing, room for new ones, and
// files.
import * as api from './api.js';
import {offerFile} from './dom.js';

const path = (id) => `/v1/states/${encodeURIComponent(id)}`;

export class KeptStates {
  most = 24;  // of one conversation; a key may have 64 by default, and other tabs want some

  living(conversation) {
    return [...conversation.turns.values()].filter((turn) => turn.state?.alive);
  }

  // Asks which are left: they end with their time and with the server.
  async refresh(conversation) {
    const left = new Map((await api.get('/v1/states')).data.map((kept) => [kept.id, kept]));
    for (const {state} of conversation.turns.values()) {
      if (state) state.alive = left.get(state.id)?.position === state.position;
    }
  }

  // Lets the oldest go, those of other branches first.
  async makeRoom(conversation) {
    const onPath = new Set(conversation.pathTo(conversation.tip));
    const living = this.living(conversation).filter((turn) => turn !== conversation.root);
    living.sort((a, b) => onPath.has(a) - onPath.has(b));
    for (const turn of living.slice(0, Math.max(living.length - this.most + 1, 0))) {
      turn.state.alive = false;
      await api.drop(path(turn.state.id)).catch(() => {});  // it may be gone already
    }
  }

  // A fork has the same past and its whole time before it: who branches at an old turn will want it for as long.
  async renew(turn) {
    const old = turn.state.id;
    const fork = await api.post(`${path(old)}/fork`, {});
    turn.state = {id: fork.id, bytes: fork.bytes, position: fork.position, alive: true};
    await api.drop(path(old)).catch(() => {});
  }

  async download(turn) {
    offerFile(`${turn.state.id}.state`, await api.getBytes(path(turn.state.id)), 'application/octet-stream');
  }

  // Brings a file back under the id in its name, so that turns of a saved conversation find it. A new id otherwise.
  async upload(file) {
    const named = /^([\w-]{1,64}?)(?: ?\(\d+\))?\.state$/.exec(file.name)?.[1];
    const id = named ?? `page_${crypto.getRandomValues(new Uint32Array(2)).join('_')}`;
    return api.putBytes(path(id), file);
  }

  async dropAll(conversation) {
    for (const turn of this.living(conversation)) await api.drop(path(turn.state.id)).catch(() => {});
  }
}
