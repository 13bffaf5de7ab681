import hashlib, joblib
from dataclasses import dataclass, field
from sklearn.base import clone
KEY_VERSION=1
@dataclass
class Fingerprint:
    digest:str
    doubts:tuple=()
    versions:dict=field(default_factory=dict)
def fingerprint(o): return Fingerprint(joblib.hash(o))
class Effective:
    def __init__(self,base,varied=()): self.base=base
    def of(self,params):
        e=clone(self.base).set_params(**clone(dict(params),safe=False)); return Fingerprint(joblib.hash(e))
def fingerprint_split(a,b): return hashlib.sha256(a.tobytes()+b"|"+b.tobytes()).hexdigest()
