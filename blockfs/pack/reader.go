package pack

import (
	"errors"
	"fmt"
	"io"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/internal/digest"
)

// Reader reads a pack as it arrives. It allocates nothing for the pack's
// contents and reads not a byte more than the pack's header announces. It is
// not safe for concurrent use.
//
//	for {
//		rec, err := r.Next()
//		if err == io.EOF { break }
//		…                                    // look rec.SHA256 up in the index: e
//		stored, err := r.Stored(buf)         // or not: Next goes past it
//		plain, err := block.Decode(dst, stored, e.PlainLen, e.SHA256)
//	}
type Reader struct {
	src    io.Reader
	header Header
	read   int   // records
	left   int64 // bytes of the pack behind the present record
	now    Record
	unread int64 // stored bytes of the present record
	err    error // ends everything
}

// NewReader reads and checks the header. The pack has to be for the given
// manifest and at most limit bytes long; a limit of 0 is MaxBytes. Errors
// wrap ErrInvalid, or are those of src; one that ends too early gives
// io.ErrUnexpectedEOF.
func NewReader(src io.Reader, manifest digest.SHA256, limit int64) (*Reader, error) {
	if limit <= 0 {
		limit = MaxBytes
	}
	var b [HeaderLength]byte
	if err := readFull(src, b[:]); err != nil {
		return nil, fmt.Errorf("read the boot pack's header: %w", err)
	}
	h, err := parseHeader(&b, limit)
	if err != nil {
		return nil, err
	}
	if h.Manifest != manifest {
		return nil, invalid("it is for the manifest %s, not for %s", h.Manifest.Short(), manifest.Short())
	}
	return &Reader{src: src, header: h, left: h.Bytes - HeaderLength}, nil
}

func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Header returns what the pack says of itself.
func (r *Reader) Header() Header { return r.header }

// Next goes on to the next record, past stored bytes that nobody has asked
// for. It returns io.EOF at the end of the pack. Other errors wrap ErrInvalid
// or are those of the source, and come again with every further call: what
// is behind a damaged record cannot be found.
func (r *Reader) Next() (Record, error) {
	rec, err := r.next()
	if err != nil && r.err == nil {
		if !errors.Is(err, io.EOF) {
			err = fmt.Errorf("boot pack, record %d of %d: %w", r.read+1, r.header.Records, err)
		}
		r.err = err
	}
	return rec, r.err
}

func (r *Reader) next() (Record, error) {
	if r.err != nil {
		return Record{}, r.err
	}
	if err := r.skip(); err != nil {
		return Record{}, err
	}
	rest := r.header.Records - r.read
	if rest == 0 {
		if r.left != 0 {
			return Record{}, invalid("%d bytes more than its records have", r.left)
		}
		return Record{}, io.EOF
	}
	var b [RecordLength]byte
	if err := readFull(r.src, b[:]); err != nil {
		return Record{}, err
	}
	rec, err := parseRecord(&b)
	if err != nil {
		return Record{}, err
	}
	r.left -= RecordLength + int64(rec.StoredLen)
	if least := int64(rest-1) * (RecordLength + 1); r.left < least {
		return Record{}, invalid("its %d stored bytes leave %d for the records behind it, want at least %d", rec.StoredLen, r.left, least)
	}
	r.read++
	r.now, r.unread = rec, int64(rec.StoredLen)
	return rec, nil
}

// skip goes to the end of the present record.
func (r *Reader) skip() error {
	if r.unread == 0 {
		return nil
	}
	n, err := io.CopyN(io.Discard, r.src, r.unread)
	r.unread -= n
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Stored reads the stored bytes of the present record into dst, whose
// capacity has to be its StoredLen at least (else the error is
// io.ErrShortBuffer, and nothing is lost). It can be called once for a record.
func (r *Reader) Stored(dst []byte) ([]byte, error) {
	switch {
	case r.err != nil:
		return nil, r.err
	case r.unread == 0:
		return nil, errors.New("boot pack: there are no stored bytes to read")
	case int64(cap(dst)) < r.unread:
		return nil, io.ErrShortBuffer
	}
	dst = dst[:r.unread]
	if err := readFull(r.src, dst); err != nil {
		r.err = fmt.Errorf("boot pack, record %d of %d: %w", r.read, r.header.Records, err)
		return nil, r.err
	}
	r.unread = 0
	return dst, nil
}

// List reads the header and the records of a pack in a file of size bytes,
// without the stored bytes. Errors are those of Reader.
func List(src io.ReaderAt, manifest digest.SHA256, size int64) (Header, []Record, error) {
	r, err := NewReader(io.NewSectionReader(src, 0, size), manifest, size)
	if err != nil {
		return Header{}, nil, err
	}
	if r.header.Bytes != size {
		return r.header, nil, invalid("it has %d bytes, its header says %d", size, r.header.Bytes)
	}
	var out []Record
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.header, out, nil
		}
		if err != nil {
			return r.header, nil, err
		}
		out = append(out, rec)
		// Its bytes are within size: Next has checked that they leave room.
		r.src = io.NewSectionReader(src, size-r.left, r.left)
		r.unread = 0
	}
}

// Check reads a whole pack that has size bytes, and decodes every block. It is
// for those who keep packs for others.
func Check(src io.Reader, manifest digest.SHA256, size int64) (Header, error) {
	r, err := NewReader(src, manifest, size)
	if err != nil {
		return Header{}, err
	}
	if r.header.Bytes != size {
		return r.header, invalid("it has %d bytes, its header says %d", size, r.header.Bytes)
	}
	seen := make(map[digest.SHA256]bool)
	var buf, plain []byte
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.header, nil
		}
		if err != nil {
			return r.header, err
		}
		if seen[rec.SHA256] {
			return r.header, invalid("block %s stands twice", rec.SHA256.Short())
		}
		seen[rec.SHA256] = true
		if buf == nil {
			buf = make([]byte, block.MaxStored(block.MaxPlain))
			plain = make([]byte, 0, block.MaxPlain+block.Slack)
		}
		stored, err := r.Stored(buf)
		if err != nil {
			return r.header, err
		}
		if _, err := block.Decode(plain, stored, rec.PlainLen, rec.SHA256); err != nil {
			return r.header, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
}
