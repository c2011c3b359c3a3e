package store

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
)

// OnlineKey returns the key with which the server signs snapshot and
// timestamp of its catalog.
func (h *HTTP) OnlineKey(ctx context.Context) (ed25519.PublicKey, error) {
	what := "ask " + h.base + " for its key"
	data, _, err := h.do(ctx, request{what: what, method: http.MethodGet, path: "api/v1/online-key", limit: maxMessage, auth: true, fresh: true})
	if err != nil {
		return nil, err
	}
	var key struct {
		KeyType string `json:"keytype"`
		KeyVal  struct {
			Public string `json:"public"`
		} `json:"keyval"`
	}
	if err := json.Unmarshal(data, &key); err != nil {
		return nil, fmt.Errorf("%s: answer: %w", what, err)
	}
	pub, err := hex.DecodeString(key.KeyVal.Public)
	if err != nil || key.KeyType != "ed25519" || len(pub) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%s: the answer is no ed25519 key", what)
	}
	return pub, nil
}
