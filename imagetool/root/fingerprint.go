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
const fingerprintFormat = "inetboot-data/1"

// Fingerprint identifies the data file without reading contents: as long as
// it is the same, so is the data file. ok is false if the source does not
// tell, or if a file changed so shortly before began, the time when reading
// the tree began, that it might change again unnoticed.
func (p *Plan) Fingerprint(began time.Time) (sum digest.SHA256, ok bool) {
	h := sha256.New()
	h.Write([]byte(fingerprintFormat))
	limit := began.Add(-settle)
	var b [7 * 8]byte
	for _, e := range p.files {
		s := e.Stamp
		if s == (source.Stamp{}) || !time.Unix(s.ChangeSec, s.ChangeNsec).Before(limit) {
			return sum, false
		}
		for i, v := range [...]uint64{
			s.Device, s.Inode, uint64(s.ChangeSec), uint64(s.ChangeNsec), uint64(s.ModifySec), uint64(s.ModifyNsec), uint64(e.Size),
		} {
			binary.LittleEndian.PutUint64(b[8*i:], v)
		}
		h.Write(b[:])
	}
	return digest.SHA256(h.Sum(nil)), true
}
