import json
from dataclasses import dataclass
from optomatic.records import SCHEMA
@dataclass
class Encoded:
    text: str
    readable: dict
    parts: dict
def encode(params, dump):
    parts={}; out=[]
    for k,v in params.items():
        if type(v) in (int,float,str,bool,type(None)): out.append([k,type(v).__name__,v])
        else:
            p=dump(v); parts[p.sha]=p; out.append([k,"opaque",p.sha])
    return Encoded(json.dumps([SCHEMA,out]),{k:repr(v)[:200] for k,v in params.items()},parts)
def parts_of(text):
    return {v for k,t,v in json.loads(text)[1] if t=="opaque"}
def decode(text,load):
    return {k:(load(v) if t=="opaque" else v) for k,t,v in json.loads(text)[1]}
