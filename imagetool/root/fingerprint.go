package root

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/internal/digest"
)

// settle is how long a file has to be left alone before its change time
// tells that it has not changed since: filesystems count in steps of up to
// two seconds.
const settle = 2 * time.Second

// fingerprintFormat is counted up when the data file of the same tree becomes
// another one.
const fingerprintFormat = "inetboot-data/2"

// Fingerprint identifies the data file without reading contents: as long as
// it is the same, so is the data file. ok is false if the source does not
// tell, or if a file changed so shortly before began, the time when reading
// the tree began, that it might change again unnoticed.
func (p *Plan) Fingerprint(began time.Time) (sum digest.SHA256, ok bool) {
	h := sha256.New()
	h.Write([]byte(fingerprintFormat))
	limit := began.Add(-settle)
	var last source.Stamper
	var size [8]byte
	for _, e := range p.files {
		s, ok := e.Contents.(source.Stamper)
		if !ok {
			return sum, false
		}
		if s != last {
			if !s.Changed().Before(limit) {
				return sum, false
			}
			last = s
		}
		stamp := s.Stamp(e)
		binary.LittleEndian.PutUint64(size[:], uint64(e.Size))
		h.Write(stamp[:])
		h.Write(size[:])
	}
	return digest.SHA256(h.Sum(nil)), true
}
