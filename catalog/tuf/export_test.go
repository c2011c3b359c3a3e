package tuf

import (
	"encoding/json"
	"fmt"
)

// SignForTest returns metadata with the signed part payload, just as it
// stands, and the signatures that sign makes of its canonical form.
func SignForTest(payload []byte, sign func(canonical []byte) []map[string]string) []byte {
	signed := payload
	if v, err := parseJSON(payload); err == nil {
		if c, err := canonical(nil, v); err == nil {
			signed = c
		}
	}
	sigs, err := json.Marshal(sign(signed))
	if err != nil {
		panic(err)
	}
	return fmt.Appendf(nil, `{"signed":%s,"signatures":%s}`, payload, sigs)
}
